"""Make the training text: the Rust documentation that `rustup component add rust-docs` installs.

First step of the recipe (corpus -> tokenizer -> train -> export -> evaluate). Reads the mdBook pages of the
books listed below and writes one JSON line per page, `{"path", "text"}`, into train.jsonl and validation.jsonl.
The API pages of std, core and alloc are left out: their generated signatures are not prose.
"""

import argparse
import hashlib
import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

BOOKS = (
    "book", "cargo", "clippy", "edition-guide", "embedded-book", "error_codes", "nomicon", "reference",
    "rust-by-example", "rustc", "rustdoc", "style-guide", "unstable-book",
)
# Translations are other languages; the old editions of the book are redirects or copies.
SKIPPED_FOLDERS = {"es", "ja", "ko", "zh", "2018-edition", "first-edition", "second-edition"}
# Whole-book copies, navigation, and two lists of links (together 5 % of the bytes, no prose).
SKIPPED_PAGES = {"print.html", "toc.html", "SUMMARY.html", "404.html", "CHANGELOG.html", "test-summary.html"}
VALIDATION_PERCENT = 4
MIN_CHARACTERS = 80

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
DROPPED = {"script", "style", "svg", "button", "nav", "iframe"}
# Hidden lines of an example, railroad diagrams, rule labels and footnote back-links are not prose.
DROPPED_CLASSES = {"boring", "grammar-railroad", "rule", "fa", "footnote-reference"}
BLOCKS = {
    "p", "div", "section", "blockquote", "table", "tr", "dl", "dt", "dd", "details", "summary", "main", "figure",
    "figcaption", "hr",
}
# Users type the ASCII forms, so the training text uses only these.
ASCII = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "…": "...", "\u00a0": " ", "\u200b": None})


class PageText(HTMLParser):
    """Renders the <main> element of one mdBook page as light Markdown."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.blocks = []
        self.inline = []
        self.prefix = ""
        self.stack = []  # (tag, dropped here)
        self.dropped = 0
        self.lists = []  # [tag, next number]
        self.pre = None
        self.fence = ""
        self.in_main = False

    def flush(self):
        text = re.sub(r"[ \t\r\n]+", " ", "".join(self.inline)).strip(" ")
        text = re.sub(r" ?\x00 ?", "\n", text).strip()
        self.inline = []
        if text:
            indent = "  " * max(len(self.lists) - 1, 0)
            self.blocks.append((bool(self.lists), indent + self.prefix + text))
            self.prefix = "  " if self.lists else ""

    def handle_starttag(self, tag, attrs):
        if tag == "main":
            self.in_main = True
        if not self.in_main:
            return
        attributes = dict(attrs)
        classes = set((attributes.get("class") or "").split())
        if tag in VOID:
            if tag == "br" and not self.dropped:
                self.inline.append("\x00")
            elif tag == "hr":
                self.flush()
            return
        drop = tag in DROPPED or bool(classes & DROPPED_CLASSES)
        self.stack.append((tag, drop))
        self.dropped += drop
        if self.dropped:
            return
        if re.fullmatch("h[1-6]", tag):
            self.flush()
            self.prefix = "#" * int(tag[1]) + " "
        elif tag in ("ul", "ol"):
            self.flush()
            self.lists.append([tag, int(attributes.get("start") or 1)])
        elif tag == "li":
            self.flush()
            if self.lists:
                kind, number = self.lists[-1]
                self.lists[-1][1] += 1
                self.prefix = "- " if kind == "ul" else f"{number}. "
        elif tag == "pre":
            self.flush()
            self.pre, self.fence = [], ""
        elif tag == "code":
            if self.pre is None:
                self.inline.append("`")
            else:
                found = re.search(r"language-([\w-]+)", attributes.get("class") or "")
                self.fence = found.group(1) if found else ""
        elif tag in ("td", "th"):
            if "".join(self.inline).strip():
                self.inline.append(" | ")
        elif tag in BLOCKS:
            self.flush()

    def handle_endtag(self, tag):
        if not self.in_main:
            return
        if tag == "main":
            self.flush()
            self.in_main = False
            return
        if tag in VOID or not any(open_tag == tag for open_tag, _ in self.stack):
            return
        visible = self.dropped == 0
        while True:
            open_tag, drop = self.stack.pop()
            self.dropped -= drop
            if open_tag == tag:
                break
        if not visible:
            return
        if re.fullmatch("h[1-6]", tag):
            self.flush()
            self.prefix = ""
        elif tag in ("ul", "ol"):
            self.flush()
            if self.lists:
                self.lists.pop()
            self.prefix = "  " if self.lists else ""
        elif tag == "li":
            self.flush()
        elif tag == "pre" and self.pre is not None:
            code = "\n".join(line.rstrip() for line in "".join(self.pre).split("\n")).strip("\n")
            self.pre = None
            if code:
                self.blocks.append((False, f"```{self.fence}\n{code}\n```"))
        elif tag == "code" and self.pre is None:
            self.inline.append("`")
        elif tag in BLOCKS:
            self.flush()

    def handle_data(self, data):
        if not self.in_main or self.dropped:
            return
        if self.pre is not None:
            self.pre.append(data)
        else:
            self.inline.append(data)

    def text(self):
        out = []
        previous_item = False
        for item, block in self.blocks:
            # List items stay on adjacent lines; everything else is a paragraph.
            if out:
                out.append("\n" if item and previous_item else "\n\n")
            out.append(block)
            previous_item = item
        return "".join(out).translate(ASCII).strip() + "\n"


def pages(root):
    for book in BOOKS:
        for path in sorted((root / book).rglob("*.html")):
            relative = path.relative_to(root)
            if path.name in SKIPPED_PAGES or SKIPPED_FOLDERS & set(relative.parts):
                continue
            html = path.read_text(encoding="utf-8")
            # Pages that exist only so that old links work.
            if "<main" not in html or 'http-equiv="refresh"' in html:
                continue
            parser = PageText()
            parser.feed(html)
            parser.close()
            yield relative.as_posix(), parser.text()


def is_validation(path):
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:4], "big") % 100 < VALIDATION_PERCENT


def default_root():
    sysroot = subprocess.run(["rustc", "--print", "sysroot"], check=True, capture_output=True, text=True).stdout
    return Path(sysroot.strip()) / "share/doc/rust/html"


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--html", type=Path, help="the rust-docs html folder (default: that of rustc's toolchain)")
    arguments.add_argument("--out", type=Path, required=True)
    options = arguments.parse_args()
    root = options.html or default_root()
    options.out.mkdir(parents=True, exist_ok=True)
    seen = set()
    totals = {"train": [0, 0], "validation": [0, 0]}
    books = {}
    with open(options.out / "train.jsonl", "w", encoding="utf-8") as train, \
            open(options.out / "validation.jsonl", "w", encoding="utf-8") as validation:
        for path, text in pages(root):
            # index.html often repeats a book's first chapter; two copies could end up on both sides of the split.
            digest = hashlib.sha256(text.encode()).digest()
            if len(text) < MIN_CHARACTERS or digest in seen:
                continue
            seen.add(digest)
            part = "validation" if is_validation(path) else "train"
            target = validation if part == "validation" else train
            target.write(json.dumps({"path": path, "text": text}, ensure_ascii=False) + "\n")
            size = len(text.encode())
            totals[part][0] += 1
            totals[part][1] += size
            books[path.split("/")[0]] = books.get(path.split("/")[0], 0) + size
    for book, size in books.items():
        print(f"{book:16} {size:9,} bytes")
    for part, (count, size) in totals.items():
        print(f"{part:16} {size:9,} bytes in {count} pages")


if __name__ == "__main__":
    main()
