"""Blocks of the built-in codec: log-mel analysis, ConvNeXt blocks with explicit streaming state, the inverse STFT that
ends its decoder, and the fine end that may stand there instead: a harmonic source, filtered several times in a frame.

A frame of 13 ms is longer than a period of most voices, so a decoder that makes each frame's phase anew has to guess
it, and neighbouring periods come out unlike each other. In the fine end the pitch is predicted, a pulse train of that
pitch is made in the time domain, where its phase goes on by itself, and the network filters it (neural source-filter
models, arXiv:1904.12088) by the spectrum of short windows, as iSTFTNet does (arXiv:2203.02395; both together: HiFTNet,
arXiv:2309.09493). A spectrum without a source is added for all that has no pitch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvalle.codec.settings import HIGHEST, LOWEST, MIDDLE, TOP, unit_mel_filters


def normalized_mel_filters(rate: int, n_fft: int, bins: int) -> Tensor:
    """Return (n_fft // 2 + 1, bins) float32 triangular filters, HTK mel scale from 0 to rate / 2, each of sum 1."""
    return torch.from_numpy(unit_mel_filters(rate, n_fft, bins))


class LogMel(nn.Module):
    """(B, samples) -> log-mel (B, T, bins), one frame a hop, window centred on the frame.

    Magnitudes below `floor` count as silence. The rounding of 16-bit audio reaches about 2e-4 in bands that hold
    nothing else; a floor above it makes a signal the same to the network whether it was stored in between or not.
    """

    def __init__(self, rate: int, n_fft: int, hop: int, bins: int, floor: float) -> None:
        super().__init__()
        self.floor = floor
        self.window: Tensor
        self.filters: Tensor
        self.n_fft, self.hop = n_fft, hop
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("filters", normalized_mel_filters(rate, n_fft, bins), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Samples whose count is not a multiple of the hop are padded with silence."""
        samples = F.pad(samples.float(), (0, -samples.shape[1] % self.hop))
        side = (self.n_fft - self.hop) // 2
        padded = F.pad(samples, (side, side))
        frames = torch.stft(padded, self.n_fft, self.hop, window=self.window, center=False, return_complex=True)
        magnitude = torch.view_as_real(frames).pow(2).sum(-1).clamp(min=1e-12).sqrt()  # (B, F, T)
        return (magnitude.transpose(1, 2) @ self.filters).clamp(min=self.floor).log()


def last_inputs(x: Tensor, count: int, spare: Tensor | None = None) -> Tensor:
    """Return the last `count` of x (B, N, ...): what a stream carries on to its next block.

    `spare` (): how many at the end only fill the block up to its size and do not count. It lies on the device, so that
    blocks of any number of frames are the same work.
    """
    first = x.shape[1] - count
    if spare is None:
        return x[:, first:]
    return x.index_select(1, first - spare + torch.arange(count, device=x.device))


class DepthwiseConv(nn.Module):
    """Depthwise convolution over time on (B, T, C); causal (with carried context) or centred."""

    def __init__(self, width: int, kernel: int, causal: bool) -> None:
        super().__init__()
        self.kernel, self.causal = kernel, causal
        self.conv = nn.Conv1d(width, width, kernel, groups=width)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """`context`: the (B, kernel - 1, C) inputs before x; silence when None."""
        x = x.transpose(1, 2)
        if not self.causal:
            return self.conv(F.pad(x, (self.kernel // 2, self.kernel // 2))).transpose(1, 2)
        x = F.pad(x, (self.kernel - 1, 0)) if context is None else torch.cat([context.transpose(1, 2), x], dim=2)
        return self.conv(x).transpose(1, 2)


class ConvNeXt(nn.Module):
    """ConvNeXt block on (B, T, C): depthwise convolution, norm, pointwise feed-forward, scaled residual."""

    def __init__(self, width: int, feedforward: int, kernel: int, causal: bool, scale: float) -> None:
        super().__init__()
        self.mix = DepthwiseConv(width, kernel, causal)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, feedforward)
        self.down = nn.Linear(feedforward, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return x + self.scale * self.down(F.gelu(self.up(self.norm(self.mix(x, context)))))


class Backbone(nn.Module):
    """A row of ConvNeXt blocks; causal ones can carry their contexts from call to call."""

    def __init__(self, width: int, feedforward: int, depth: int, kernel: int, causal: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ConvNeXt(width, feedforward, kernel, causal, scale=1 / max(depth, 1)) for _ in range(depth)
        )
        self.keep, self.width = kernel - 1, width

    def forward(self, x: Tensor, contexts: list[Tensor] | None = None, spare: Tensor | None = None) -> Tensor:
        """`contexts`, one (B, kernel - 1, C) a block, is updated for the next call. `spare`: see `last_inputs`."""
        for index, block in enumerate(self.blocks):
            context = None
            if contexts is not None:
                context = contexts[index]
                contexts[index] = last_inputs(torch.cat([context, x], dim=1), self.keep, spare)
            x = block(x, context)
        return x

    def empty_contexts(self, rows: int) -> list[Tensor]:
        """Return the contexts of a stream that has seen nothing."""
        parameter = next(self.parameters())
        return [parameter.new_zeros(rows, self.keep, self.width) for _ in self.blocks]


class InverseSTFT(nn.Module):
    """(B, T, C) -> overlapping windowed frames (B, T, n_fft) through predicted magnitude and phase (Vocos)."""

    def __init__(self, width: int, n_fft: int, hop: int, outputs: int = 2) -> None:
        """`outputs`: numbers predicted for each bin."""
        super().__init__()
        assert n_fft % hop == 0, (n_fft, hop)
        self.n_fft, self.hop, self.overlap = n_fft, hop, n_fft // hop
        self.project = nn.Linear(width, outputs * (n_fft // 2 + 1))
        window = torch.hann_window(n_fft)
        # Squared Hann windows at this overlap sum to a constant, so the envelope is one number.
        self.register_buffer(
            "window", window / window.pow(2).reshape(self.overlap, hop).sum(0).mean(), persistent=False
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.frames(polar(*self.project(x).float().chunk(2, dim=-1)))

    def frames(self, spectrum: Tensor) -> Tensor:
        """Return the windowed frames (B, T, n_fft) of spectra (B, T, n_fft // 2 + 1)."""
        return torch.fft.irfft(spectrum, self.n_fft, dim=-1) * self.window

    def overlap_add(
        self, frames: Tensor, tail: Tensor | None = None, spare: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Add windowed frames (B, T, n_fft) at each hop.

        Returns the finished samples (B, T * hop) and the unfinished tail (B, n_fft - hop) for the next call. `spare`:
        see `last_inputs`; the samples of the frames that do not count hold what the tail holds.
        """
        rows, count, _ = frames.shape
        if spare is not None:
            is_real = torch.arange(count, device=frames.device) < count - spare
            frames = torch.where(is_real[:, None], frames, 0.0)
        pieces = frames.reshape(rows, count, self.overlap, self.hop)
        total = torch.zeros(rows, count + self.overlap - 1, self.hop, dtype=frames.dtype, device=frames.device)
        if tail is not None:
            total[:, : self.overlap - 1] += tail.reshape(rows, self.overlap - 1, self.hop)
        total = total + sum(F.pad(pieces[:, :, k], (0, 0, k, self.overlap - 1 - k)) for k in range(self.overlap))
        samples = total.reshape(rows, -1)
        left = (self.overlap - 1) * self.hop
        return samples[:, : count * self.hop], last_inputs(samples, left, None if spare is None else spare * self.hop)


@dataclass
class SourceState:
    """Where the pulse train of each row stands, so that the next block goes on from there."""

    octaves: Tensor  # (B,) float64, pitch at the end of the last frame, octaves over `MIDDLE`
    gate: Tensor  # (B,) how voiced that was, 0 to 1
    phase: Tensor  # (B,) float64, periods
    samples: Tensor  # (B, n) the last ones of the pulse train


class Pitch(nn.Module):
    """The trunk's output (B, T, C) -> pitch at the end of each frame, octaves over `MIDDLE`, and voicing, a logit."""

    def __init__(self, width: int, feedforward: int, depth: int, kernel: int) -> None:
        super().__init__()
        self.body = Backbone(width, feedforward, depth, kernel, causal=True)
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, 2)

    def forward(
        self, hidden: Tensor, contexts: list[Tensor] | None = None, spare: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        found = self.norm(self.body(hidden, contexts, spare)).float()
        with torch.autocast(found.device.type, enabled=False):  # a period is a thousandth of an octave or two
            octaves, voicing = self.leave(found).unbind(-1)
        return octaves, voicing


class HarmonicSource(nn.Module):
    """Pitch and voicing of each frame -> the spectrum of a pulse train in each short window."""

    def __init__(self, rate: int, hop: int, n_fft: int, parts: int) -> None:
        super().__init__()
        self.rate, self.hop, self.n_fft, self.step = rate, hop, n_fft, hop // parts
        self.window: Tensor
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def empty_state(self, rows: int, like: Tensor) -> SourceState:
        """Return the state of a stream that has seen nothing."""
        octaves, phase = like.new_zeros(2, rows, dtype=torch.float64).unbind()
        return SourceState(octaves, like.new_zeros(rows), phase, like.new_zeros(rows, self.n_fft - self.step))

    @torch.no_grad()
    def forward(self, octaves: Tensor, voicing: Tensor, state: SourceState, spare: Tensor | None = None) -> Tensor:
        """Return spectra (B, T * parts, n_fft // 2 + 1), complex, of voiced-ness times a pulse train of unit power.

        `octaves`, `voicing`: (B, T), at the end of each frame; in between they go in straight lines. `voicing` is a
        probability. Updates `state`. `spare`: see `last_inputs`.
        """
        samples = self._pulses(octaves.double(), voicing.float(), state, spare)
        heard = torch.cat([state.samples, samples], dim=1)
        kept, spare = state.samples.shape[1], None if spare is None else spare * self.hop
        state.samples = last_inputs(heard, kept, spare)
        frames = heard.unfold(1, self.n_fft, self.step)
        return torch.fft.rfft(frames * self.window) / math.sqrt(self.n_fft)

    def _pulses(self, octaves: Tensor, gate: Tensor, state: SourceState, spare: Tensor | None = None) -> Tensor:
        """Return the samples (B, T * hop) of the pulse train."""
        before = torch.cat([state.octaves[:, None], octaves[:, :-1]], dim=1)
        gate_before = torch.cat([state.gate[:, None], gate[:, :-1]], dim=1)
        ramp = torch.arange(1, self.hop + 1, device=octaves.device, dtype=torch.float64) / self.hop
        hertz = MIDDLE * torch.exp2(before[..., None] + (octaves - before)[..., None] * ramp)  # (B, T, hop)
        hertz = hertz.clamp(LOWEST, HIGHEST)
        inside = (hertz / self.rate).cumsum(-1)
        ends = inside[..., -1].cumsum(-1)  # periods from the block's start to each frame's end
        starts = ends - inside[..., -1] + state.phase[:, None]
        # Each voiced stretch begins a pulse of its own: what rounding adds up to cannot grow with the length of a text.
        onset = (gate > 0.5) & (gate_before <= 0.5)
        places = torch.arange(gate.shape[1], device=gate.device).expand_as(gate)
        last = torch.where(onset, places, -1).cummax(dim=1).values
        starts = starts - torch.where(last >= 0, starts.gather(1, last.clamp(min=0)), 0.0)
        periods = (starts[..., None] + inside).frac()
        after = octaves, gate, periods[..., -1]
        state.octaves, state.gate, state.phase = (last_inputs(each, 1, spare)[:, 0] for each in after)
        level = gate_before[..., None] + (gate - gate_before)[..., None] * ramp.float()
        return (level * _harmonics(periods.float(), hertz.float())).flatten(1)


def _harmonics(periods: Tensor, hertz: Tensor) -> Tensor:
    """Return the sum of all cosines up to `TOP`, in unit power; the highest one fades, so that none begins at once."""
    count = TOP / hertz
    whole = count.floor()
    half = math.pi * periods
    below = torch.sin(half)
    near = below.abs() < 1e-5
    kernel = torch.sin((2 * whole + 1) * half) / torch.where(near, 1.0, below)  # Dirichlet's, 1 + 2 * sum of cosines
    total = (torch.where(near, 2 * whole + 1, kernel) - 1) / 2 + (count - whole) * torch.cos(2 * (whole + 1) * half)
    return total * (2 / count).sqrt()


class HarmonicHead(InverseSTFT):
    """(B, T, C) and the source's spectra -> windowed frames: the source filtered, and a spectrum of its own added."""

    def __init__(self, width: int, n_fft: int, hop: int) -> None:
        super().__init__(width, n_fft, hop, outputs=4)
        with torch.no_grad():  # begins as a faint pulse train in a faint noise
            bias = self.project.bias.view(4, -1)
            bias.zero_()
            bias[0] = bias[2] = -3.0

    def filter(self, x: Tensor, source: Tensor) -> Tensor:
        """Return windowed frames (B, T, n_fft) of x (B, T, C) and complex spectra (B, T, n_fft // 2 + 1)."""
        with torch.autocast(x.device.type, enabled=False):
            own, phase, gain, turn = self.project(x.float()).chunk(4, dim=-1)
        return self.frames(polar(own, phase) + source * polar(gain, turn))


def polar(log_magnitude: Tensor, phase: Tensor) -> Tensor:
    """Return complex numbers; their magnitude stays finite."""
    magnitude = log_magnitude.clamp(max=6.0).exp()
    return torch.complex(magnitude * phase.cos(), magnitude * phase.sin())


@dataclass
class FineState:
    """What the fine end carries from block to block."""

    pitch: list[Tensor]
    body: list[Tensor]
    source: SourceState


class FineEnd(nn.Module):
    """The trunk's output and the body's, both at the frame rate -> windowed frames, `parts` to each frame."""

    def __init__(
        self,
        trunk: int,
        width: int,
        rate: int,
        hop: int,
        parts: int,
        fine: int,
        depth: int,
        expansion: int,
        kernel: int,
    ) -> None:
        super().__init__()
        n_fft = 4 * (hop // parts)
        self.parts, self.bins = parts, n_fft // 2 + 1
        self.pitch = Pitch(trunk, trunk * expansion, 2, kernel)
        self.source = HarmonicSource(rate, hop, n_fft, parts)
        self.spread = nn.Linear(width, parts * fine)
        self.excite = nn.Linear(2 * self.bins, fine)
        self.body = Backbone(fine, fine * expansion, depth, kernel, causal=True)
        self.norm = nn.LayerNorm(fine)
        self.head = HarmonicHead(fine, n_fft, hop // parts)

    def empty_state(self, rows: int) -> FineState:
        """Return the state of a stream that has seen nothing."""
        like = self.excite.weight
        return FineState(
            self.pitch.body.empty_contexts(rows), self.body.empty_contexts(rows), self.source.empty_state(rows, like)
        )

    def forward(
        self,
        hidden: Tensor,
        x: Tensor,
        state: FineState,
        given: tuple[Tensor, Tensor] | None = None,
        spare: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return windowed frames (B, T * parts, n_fft), and pitch and voicing (a logit) as they were predicted.

        `given`: pitch and voicing (a probability) for the source instead of those, where they are numbers. Updates
        `state`. `spare`: see `last_inputs`.
        """
        octaves, voicing = self.pitch(hidden, state.pitch, spare)
        heard, gate = octaves, voicing.sigmoid()
        if given is not None:
            heard, gate = (torch.where(g.isnan(), own, g) for g, own in zip(given, (heard, gate), strict=True))
        source = self.source(heard, gate, state.source, spare)
        spread = self.spread(x).reshape(len(x), -1, self.excite.out_features)
        spare = None if spare is None else spare * self.parts
        fine = self.body(spread + self.excite(torch.view_as_real(source).flatten(-2)), state.body, spare)
        return self.head.filter(self.norm(fine), source), (octaves, voicing)
