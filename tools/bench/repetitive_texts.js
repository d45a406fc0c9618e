// @ts-check
// Answers that repeat what was said before, for lookup.js: an edit of code, a list of records, quotations.

const CODE = `\
/// Reads \`key = value\` lines into a map. Empty lines and comments are skipped.
pub fn parse_settings(text: &str) -> Result<HashMap<String, String>, ParseError> {
    let mut settings = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            return Err(ParseError { line: number + 1, reason: "there is no equals sign" });
        };
        let key = key.trim();
        if key.is_empty() {
            return Err(ParseError { line: number + 1, reason: "there is no key" });
        }
        if settings.contains_key(key) {
            return Err(ParseError { line: number + 1, reason: "the key occurs twice" });
        }
        settings.insert(key.to_string(), value.trim().to_string());
    }
    Ok(settings)
}
`;

/** The code after a change of two lines and one more check. */
const EDITED = CODE.replace("#", ";")
  .replace("HashMap::new()", "HashMap::with_capacity(16)")
  .replace(
    "        settings.insert",
    `\
        if value.contains('=') {
            return Err(ParseError { line: number + 1, reason: "there are two equals signs" });
        }
        settings.insert`,
  );

const REPORT = `\
The water pump was installed in March and has run without a fault since then. In June the filter was changed for the
first time. The second filter was bought from another supplier and does not fit well, so some sand passes it. The
pressure at the outlet fell from 3.1 to 2.6 bar in the same month. We do not know yet whether the sand or the old valve
is the reason. The valve will be opened in August, when the garden needs less water. Until then the pump should not run
for more than two hours at a time.
`;

const RECORDS = [
  ["Mercury", 4879, 0, true],
  ["Venus", 12104, 0, true],
  ["Earth", 12756, 1, true],
  ["Mars", 6792, 2, true],
  ["Jupiter", 142984, 97, false],
  ["Saturn", 120536, 274, false],
  ["Uranus", 51118, 29, false],
  ["Neptune", 49528, 16, false],
];

/** @type {Record<string, { question: string, answer: string }>} */
export const REPETITIVE = {
  edit: {
    question: `Comments begin with a semicolon. Refuse a second equals sign. Reserve room for 16.\n\n${CODE}\n`,
    answer: EDITED,
  },
  list: {
    question: "List the planets with diameter, number of moons and whether they are made of rock, as JSON.\n\n",
    answer: JSON.stringify(
      RECORDS.map(([name, diameter_km, moons, is_rock]) => ({ name, diameter_km, moons, is_rock })),
      null,
      2,
    ),
  },
  quote: {
    question: `${REPORT}\nWhich sentences say what is wrong with the pump, and what follows from it? Quote them.\n\n`,
    answer: `\
Three sentences say what is wrong:

- "The second filter was bought from another supplier and does not fit well, so some sand passes it."
- "The pressure at the outlet fell from 3.1 to 2.6 bar in the same month."
- "We do not know yet whether the sand or the old valve is the reason."

And this follows from it: "Until then the pump should not run for more than two hours at a time."
`,
  },
};
