"""The network: Zamba2 in plain PyTorch, for training on a CPU.

Parameters have the names of the published checkpoints, so export is a copy. The topology is that of Zamba2-1.2B: one
shared transformer, used by every hybrid layer with LoRA adapters of its own. Not supported: several shared
transformers, several B/C groups, grouped queries, caches and decoding; the reference implementation (`transformers`)
and the Rust runtime have those.
"""

from dataclasses import asdict, dataclass, field
from math import log

import torch
from torch import nn
from torch.nn import functional as F


@dataclass
class Config:
    vocab_size: int = 4096
    hidden_size: int = 128
    num_hidden_layers: int = 38
    hybrid_layer_ids: list = field(default_factory=lambda: [5, 11, 17, 23, 29, 35])
    mamba_d_state: int = 32
    mamba_d_conv: int = 4
    mamba_expand: int = 2
    n_mamba_heads: int = 8
    num_attention_heads: int = 4
    intermediate_size: int = 512
    adapter_rank: int = 16
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5
    time_step_min: float = 0.001
    time_step_max: float = 0.1
    max_position_embeddings: int = 2048

    @property
    def d_inner(self):
        return self.mamba_expand * self.hidden_size

    @property
    def attention_size(self):
        return 2 * self.hidden_size

    def to_dict(self):
        return asdict(self)


# Positions per masked product. Shorter chunks mean less work per product and more states to pass on.
CHUNK = 32
# RMSNormGated has its own epsilon in the reference, independent of rms_norm_eps.
GATED_NORM_EPS = 1e-5


def rms(x, weight, eps):
    return F.rms_norm(x.float(), (x.shape[-1],), weight, eps)


def ssd_scan(x, dt, a, b, c, chunk):
    """y_t = C_t S_t with S_t = exp(dt_t a) S_{t-1} + dt_t x_t B_t, by chunks (the SSD form of Mamba-2).

    x [batch, length, heads, p], dt [batch, length, heads], a [heads], b and c [batch, length, n].
    """
    batch, length, heads, p = x.shape
    n = b.shape[-1]
    chunks = length // chunk
    x = (x * dt[..., None]).view(batch, chunks, chunk, heads, p)
    b = b.view(batch, chunks, chunk, n)
    c = c.view(batch, chunks, chunk, n)
    decay = (dt * a).view(batch, chunks, chunk, heads).transpose(2, 3)  # logarithms, [batch, chunks, heads, chunk]
    total = decay.cumsum(-1)

    # Within a chunk: a masked, decayed C Bᵀ. The mask is applied before exp, otherwise future positions overflow.
    causal = torch.ones(chunk, chunk, dtype=torch.bool, device=x.device).tril()
    difference = (total[..., :, None] - total[..., None, :]).masked_fill(~causal, float("-inf"))
    mix = (c @ b.transpose(-1, -2))[:, :, None] * difference.exp()
    x_heads = x.transpose(2, 3)  # [batch, chunks, heads, chunk, p]
    y = mix @ x_heads

    # The final state of each chunk, and the initial state of each from all chunks before it.
    left = x_heads * (total[..., -1:] - total).exp()[..., None]
    left = left.transpose(-1, -2).reshape(batch, chunks, heads * p, chunk) @ b
    ends = total[..., -1].transpose(1, 2).cumsum(-1)  # [batch, heads, chunks]
    before = F.pad(ends, (1, 0))[..., :-1]
    earlier = torch.ones(chunks, chunks, dtype=torch.bool, device=x.device).tril(-1)
    carry = (before[..., :, None] - ends[..., None, :]).masked_fill(~earlier, float("-inf")).exp()
    states = left.view(batch, chunks, heads, p * n).transpose(1, 2)
    states = (carry @ states).transpose(1, 2).reshape(batch, chunks, heads * p, n)
    received = (c @ states.transpose(-1, -2)).view(batch, chunks, chunk, heads, p)
    y = y.transpose(2, 3) + received * total.exp().transpose(2, 3)[..., None]
    return y.reshape(batch, length, heads, p)


def mix_tokens(x, norm_in, in_proj, conv_weight, conv_bias, dt_bias, a_log, d, norm_out, out_proj,
               heads, n, dt_min, eps, chunk):
    """Norm and Mamba-2 mixer of one layer. A function of tensors, so that it is compiled once for all layers."""
    batch, length, _ = x.shape
    d_inner = out_proj.shape[1]
    z, xbc, dt = F.linear(rms(x, norm_in, eps), in_proj).split([d_inner, d_inner + 2 * n, heads], -1)
    # Depthwise causal convolution as a sum of shifted copies, which the compiler fuses, unlike a grouped convolution.
    width = conv_weight.shape[-1]
    padded = F.pad(xbc.float(), (0, 0, width - 1, 0))
    xbc = conv_bias + sum(padded[:, k:k + length] * conv_weight[:, 0, k] for k in range(width))
    xs, b, c = F.silu(xbc).split([d_inner, n, n], -1)
    dt = F.softplus(dt.float() + dt_bias).clamp(min=dt_min)
    xs = xs.reshape(batch, length, heads, d_inner // heads)
    y = ssd_scan(xs, dt, -a_log.exp(), b, c, chunk) + d[:, None] * xs
    y = y.reshape(batch, length, d_inner).float() * F.silu(z.float())
    return F.linear(rms(y, norm_out, GATED_NORM_EPS), out_proj)


class Norm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))


class Mixer(nn.Module):
    def __init__(self, config):
        super().__init__()
        heads, n, inner = config.n_mamba_heads, config.mamba_d_state, config.d_inner
        conv = inner + 2 * n
        self.in_proj = nn.Linear(config.hidden_size, inner + conv + heads, bias=False)
        self.conv1d = nn.Conv1d(conv, conv, config.mamba_d_conv, groups=conv)
        dt = torch.exp(torch.rand(heads) * (log(config.time_step_max) - log(config.time_step_min))
                       + log(config.time_step_min))
        # softplus(dt_bias) == dt: a log-uniform spread of time scales (Mamba-2's initialisation).
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))
        self.A_log = nn.Parameter(torch.empty(heads).uniform_(1, 16).log())
        self.D = nn.Parameter(torch.ones(heads))
        self.norm = Norm(inner)
        self.out_proj = nn.Linear(inner, config.hidden_size, bias=False)
        with torch.no_grad():
            self.in_proj.weight.normal_(std=config.hidden_size ** -0.5)
            self.out_proj.weight.normal_(std=0.1 * (inner * 2 * config.num_hidden_layers) ** -0.5)


class MixerLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.input_layernorm = Norm(config.hidden_size)
        self.mamba = Mixer(config)

    def forward(self, x, mix):
        m, c = self.mamba, self.config
        return mix(x, self.input_layernorm.weight, m.in_proj.weight, m.conv1d.weight, m.conv1d.bias, m.dt_bias,
                   m.A_log, m.D, m.norm.weight, m.out_proj.weight, c.n_mamba_heads, c.mamba_d_state,
                   c.time_step_min, c.rms_norm_eps, CHUNK)


def adapters(inputs, rank, outputs, count):
    """LoRA adapters, one per hybrid layer. The second matrix is initialised to zero, so layers start out equal."""
    pairs = nn.ModuleList()
    for _ in range(count):
        down, up = nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs, bias=False)
        nn.init.normal_(down.weight, std=inputs ** -0.5)
        nn.init.zeros_(up.weight)
        pairs.append(nn.Sequential(down, up))
    return pairs


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        size, slots = config.attention_size, len(config.hybrid_layer_ids)
        for name in "qkv":
            projection = nn.Linear(size, size, bias=False)
            nn.init.normal_(projection.weight, std=size ** -0.5)
            setattr(self, f"{name}_proj", projection)
        self.o_proj = nn.Linear(size, config.hidden_size, bias=False)
        nn.init.normal_(self.o_proj.weight, std=size ** -0.5)
        for name in "qkv":
            setattr(self, f"linear_{name}_adapter_list", adapters(size, config.adapter_rank, size, slots))


class FeedForward(nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden, inner = config.hidden_size, config.intermediate_size
        self.gate_up_proj = nn.Linear(hidden, 2 * inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)
        nn.init.normal_(self.gate_up_proj.weight, std=hidden ** -0.5)
        nn.init.normal_(self.down_proj.weight, std=inner ** -0.5)
        self.gate_up_proj_adapter_list = adapters(
            hidden, config.adapter_rank, 2 * inner, len(config.hybrid_layer_ids))


class SharedTransformer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.input_layernorm = Norm(config.attention_size)
        self.self_attn = Attention(config)
        self.pre_ff_layernorm = Norm(config.hidden_size)
        self.feed_forward = FeedForward(config)

    def forward(self, x, embeddings, slot, cos, sin):
        config, attention, mlp = self.config, self.self_attn, self.feed_forward
        batch, length, _ = x.shape
        heads = config.num_attention_heads
        u = rms(torch.cat([x, embeddings], -1), self.input_layernorm.weight, config.rms_norm_eps)
        q, k, v = (
            (getattr(attention, f"{name}_proj")(u) + getattr(attention, f"linear_{name}_adapter_list")[slot](u))
            .view(batch, length, heads, -1).transpose(1, 2)
            for name in "qkv"
        )
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        # The published model scales by the square root of half the head size.
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=(q.shape[-1] / 2) ** -0.5)
        a = attention.o_proj(a.transpose(1, 2).reshape(batch, length, -1))
        m = rms(a, self.pre_ff_layernorm.weight, config.rms_norm_eps)
        gate, up = (mlp.gate_up_proj(m) + mlp.gate_up_proj_adapter_list[slot](m)).chunk(2, -1)
        return mlp.down_proj(F.gelu(gate) * up)


def rotate(x, cos, sin):
    first, second = x.float().chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1).to(x.dtype)


class HybridLayer(nn.Module):
    def __init__(self, config, owner):
        super().__init__()
        self.linear = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        nn.init.normal_(self.linear.weight, std=config.hidden_size ** -0.5)
        self.mamba_decoder = MixerLayer(config)
        if owner:
            self.shared_transformer = SharedTransformer(config)


class Backbone(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        nn.init.normal_(self.embed_tokens.weight, std=0.05)
        hybrid = config.hybrid_layer_ids
        self.layers = nn.ModuleList(
            HybridLayer(config, owner=i == hybrid[0]) if i in hybrid else MixerLayer(config)
            for i in range(config.num_hidden_layers))
        self.final_layernorm = Norm(config.hidden_size)


class Zamba2(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.model = Backbone(config)
        self.mix = mix_tokens

    def compile(self):
        """Compiles the mixer, which fuses elementwise operations; all layers use the one compiled function."""
        self.mix = torch.compile(mix_tokens)

    def forward(self, ids):
        """Logits [batch, length, vocab]; the length must be a multiple of CHUNK."""
        config, model = self.config, self.model
        hybrid = config.hybrid_layer_ids
        block = model.layers[hybrid[0]].shared_transformer
        half = config.attention_size // config.num_attention_heads // 2
        frequencies = config.rope_theta ** (-torch.arange(half, device=ids.device) / half)
        angles = torch.arange(ids.shape[1], device=ids.device)[:, None] * frequencies
        cos, sin = angles.cos(), angles.sin()
        embeddings = x = F.embedding(ids, model.embed_tokens.weight)
        for i, layer in enumerate(model.layers):
            if i in hybrid:
                t = layer.linear(block(x, embeddings, hybrid.index(i), cos, sin))
                # The shared transformer's output is added to the mixer's input only, not to the residual stream.
                x = x + layer.mamba_decoder(x + t, self.mix)
            else:
                x = x + layer(x, self.mix)
        return F.linear(rms(x, model.final_layernorm.weight, config.rms_norm_eps), model.embed_tokens.weight)
