"""The encoder: size, order of time, and what standardisation keeps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from nmm_infer.networks import BiLSTM, Encoder, Standardise, Transformer
from nmm_infer.settings import EncoderSettings


def _count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _lstm(width: int, layers: int) -> int:
    """Weights of a bi-LSTM with width / 2 units a direction: 4 gates, two biases."""
    half = width // 2
    return layers * 2 * (4 * half * width + 4 * half * half + 8 * half)


def _attention(width: int) -> int:
    """Weights of one encoder layer with a feed-forward part of twice the width."""
    attention = 3 * width * width + 3 * width + width * width + width
    feed_forward = 2 * (2 * width * width) + 2 * width + width
    return attention + feed_forward + 4 * width


@pytest.mark.parametrize(
    ("backbone", "width", "layers", "expected"),
    [
        ("bilstm", 64, 2, 62016),
        ("bilstm", 16, 1, 3088),
        ("transformer", 64, 2, 75264),
        ("transformer", 16, 1, 3536),
    ],
)
def test_parameter_count(backbone: str, width: int, layers: int, expected: int) -> None:
    encoder = Encoder(41, False, EncoderSettings(backbone=backbone, width=width, layers=layers))
    tokens = 11  # ceil(41 / 4)
    front = (4 * 2 * width + width) + (42 * width + width)
    if backbone == "bilstm":
        back = _lstm(width, layers) + 4 * width + 2 * width * width + width
    else:
        back = layers * _attention(width) + tokens * width + 2 * width + width * width + width
    assert _count(encoder) == front + back
    assert _count(encoder) == expected


def test_backbone_count() -> None:
    assert _count(BiLSTM(64, 2)) == _lstm(64, 2) + 4 * 64 + 2 * 64 * 64 + 64
    assert _count(Transformer(64, 2, 11)) == 2 * _attention(64) + 11 * 64 + 2 * 64 + 64 * 64 + 64


@pytest.mark.parametrize("kind", [BiLSTM, lambda w, n: Transformer(w, n, 10)])
def test_backbones_know_the_order_of_time(kind: type) -> None:
    torch.manual_seed(0)
    net = kind(16, 2).eval()
    tokens = torch.randn(3, 10, 16)
    permuted = tokens[:, torch.randperm(10, generator=torch.Generator().manual_seed(1))]
    with torch.no_grad():
        one, other, again = net(tokens), net(permuted), net(tokens.clone())
    assert torch.equal(one, again)
    assert (one - other).abs().max() > 1e-3


@pytest.mark.parametrize("backbone", ["bilstm", "transformer"])
@pytest.mark.parametrize("n_steps", [1, 41, 150])
def test_every_step_reaches_the_summary(backbone: str, n_steps: int) -> None:
    torch.manual_seed(0)
    encoder = Encoder(n_steps, False, EncoderSettings(backbone=backbone, width=16, layers=1))
    torch.nn.init.zeros_(encoder.shortcut.weight)  # through the backbone alone
    x = torch.randn(2, n_steps, requires_grad=True)
    y = encoder(x)
    assert y.shape == (2, 16)
    assert torch.isfinite(y).all()
    if n_steps > 1:
        (gradient,) = torch.autograd.grad((y * torch.randn(16)).sum(), x)
        assert (gradient.abs() > 0).all()


def test_sequences_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 41)
    for backbone in ("bilstm", "transformer"):
        encoder = Encoder(41, False, EncoderSettings(backbone=backbone, width=16)).eval()
        with torch.no_grad():
            torch.testing.assert_close(encoder(x)[3:5], encoder(x[3:5]))


def test_at_most_150_steps() -> None:
    Encoder(150, False, EncoderSettings(width=8))
    with pytest.raises(ValueError, match="at most 150 steps, got 151"):
        Encoder(151, False, EncoderSettings(width=8))


@pytest.mark.parametrize("bad", [{"width": 7}, {"width": 12}, {"layers": 0}, {"bach": 1}])
def test_bad_settings(bad: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        EncoderSettings(**bad)


def test_the_shape_of_a_time_course_is_free_of_scale() -> None:
    x = torch.randn(50, 41, generator=torch.Generator().manual_seed(0)) * 3
    module = Standardise(41, False).fit(x)
    one, ten = module(x), module(10 * x)
    torch.testing.assert_close(one[..., 0], ten[..., 0])
    torch.testing.assert_close(module(-x)[..., 0], -one[..., 0])
    # The size is the second feature: constant in time, logarithmic.
    difference = (ten - one)[..., 1]
    expected = np.log(10) / float(module.size_scale)
    torch.testing.assert_close(difference, torch.full_like(difference, expected))
    size = one[:, 0, 1]
    assert abs(float(size.mean())) < 1e-5
    assert float(size.std()) == pytest.approx(1.0, abs=1e-4)
    rms = (x**2).mean(-1).sqrt()
    torch.testing.assert_close(one[..., 0], torch.asinh(2 * x / rms[:, None]))


def test_spectra_are_standardised_in_logarithms() -> None:
    log = torch.randn(400, 20, generator=torch.Generator().manual_seed(0)) + torch.arange(20)
    module = Standardise(20, True).fit(torch.exp(log))
    features = module(torch.exp(log))[..., 0]
    torch.testing.assert_close(features.mean(0), torch.zeros(20), atol=1e-4, rtol=0)
    torch.testing.assert_close(features.std(0), torch.ones(20), atol=1e-4, rtol=0)
    louder = module(5 * torch.exp(log))[..., 0]
    expected = np.log(5) / module.scale
    torch.testing.assert_close(louder - features, expected.expand(400, 20), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("logarithmic", [False, True])
def test_silence_is_finite(logarithmic: bool) -> None:
    module = Standardise(20, logarithmic)
    assert torch.isfinite(module(torch.zeros(2, 20))).all()
