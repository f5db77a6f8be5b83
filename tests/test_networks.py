"""The encoder: size, order of time, and what standardisation keeps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from nmm_infer.networks import (
    LSTM,
    MLP,
    BiLSTM,
    Convolution,
    Embedding,
    Encoder,
    FeatureEncoder,
    Standardise,
    Transformer,
)
from nmm_infer.settings import EncoderSettings

BACKBONES = ("bilstm", "lstm", "cnn_bilstm", "transformer")


def _count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _linear(n: int, m: int) -> int:
    return n * m + m


def _lstm(width: int, units: int, layers: int, directions: int) -> int:
    """Weights of an LSTM whose layers are as wide as its input: 4 gates, two biases."""
    return layers * directions * (4 * units * width + 4 * units * units + 8 * units)


def _attention(width: int) -> int:
    """Weights of one encoder layer with a feed-forward part of twice the width."""
    attention = _linear(width, 3 * width) + _linear(width, width)
    feed_forward = _linear(width, 2 * width) + _linear(2 * width, width)
    return attention + feed_forward + 4 * width


def _mlp(n: int, width: int) -> int:
    hidden = _linear(n, 2 * width) + _linear(2 * width, 2 * width) + _linear(2 * width, width)
    return _linear(n, width) + hidden


def _backbone(kind: str, width: int, layers: int, tokens: int) -> int:
    if kind == "mlp":
        return 0
    if kind == "transformer":
        read = layers * _attention(width) + tokens * width
        return read + 2 * width + _linear(width, width)
    both = kind != "lstm"
    read = _lstm(width, width // 2 if both else width, layers, 1 + both)
    return read + 4 * width + _linear(2 * width, width)


def _tokens(kind: str, features: int, width: int, patch: int) -> int:
    if kind == "mlp":
        return 0
    if kind == "cnn_bilstm":
        return _linear(3 * patch * features, width) + _linear(width, width)
    return _linear(patch * features, width)


@pytest.mark.parametrize(
    ("kind", "width", "layers", "components", "context", "expected"),
    [
        ("mlp", 64, 1, 1, 0, 40896),
        ("bilstm", 64, 2, 1, 0, 100416),
        ("bilstm", 16, 1, 3, 2, 16432),
        ("lstm", 64, 1, 1, 0, 83520),
        ("cnn_bilstm", 64, 1, 1, 1, 81984),
        ("transformer", 64, 2, 1, 0, 113664),
        ("transformer", 16, 1, 16, 1, 69600),
    ],
)
def test_parameter_count(
    kind: str, width: int, layers: int, components: int, context: int, expected: int
) -> None:
    settings = EncoderSettings(backbone=kind, width=width, layers=layers)
    encoder = Encoder(41, False, settings, components, context)
    tokens = 11  # ceil(41 / 4)
    features = 2 * components + 1 + context
    direct = _mlp(2 * 41 * components + 1 + context, width)
    count = direct + _tokens(kind, features, width, 4) + _backbone(kind, width, layers, tokens)
    assert _count(encoder) == count
    assert _count(encoder) == expected


def test_parts_count() -> None:
    assert _count(BiLSTM(64, 2)) == _backbone("bilstm", 64, 2, 0)
    assert _count(LSTM(64, 2)) == _backbone("lstm", 64, 2, 0)
    assert _count(Transformer(64, 2, 11)) == _backbone("transformer", 64, 2, 11)
    assert _count(MLP(30, 16)) == _mlp(30, 16)
    assert _count(Convolution(4, 16, 5)) == _tokens("cnn_bilstm", 4, 16, 5)
    assert _count(FeatureEncoder(17, EncoderSettings(backbone="mlp", width=8))) == _mlp(17, 8)


@pytest.mark.parametrize("kind", [BiLSTM, LSTM, lambda w, n: Transformer(w, n, 10)])
def test_backbones_know_the_order_of_time(kind: type) -> None:
    torch.manual_seed(0)
    net = kind(16, 2).eval()
    tokens = torch.randn(3, 10, 16)
    permuted = tokens[:, torch.randperm(10, generator=torch.Generator().manual_seed(1))]
    with torch.no_grad():
        one, other, again = net(tokens), net(permuted), net(tokens.clone())
    assert torch.equal(one, again)
    assert (one - other).abs().max() > 1e-3


def test_a_token_of_convolution_sees_its_neighbourhood_only() -> None:
    torch.manual_seed(0)
    net = Convolution(2, 8, 5)
    x = torch.randn(1, 50, 2, requires_grad=True)
    tokens = net(x)
    assert tokens.shape == (1, 10, 8)
    (gradient,) = torch.autograd.grad(tokens[0, 4].sum(), x)
    seen = np.flatnonzero(gradient[0].abs().sum(-1).numpy())
    # Its own patch, steps 20 to 24, and those before and after.
    assert seen.tolist() == list(range(15, 30))


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize(("n_steps", "components"), [(1, 1), (41, 1), (41, 3), (150, 16)])
def test_every_number_reaches_the_summary(backbone: str, n_steps: int, components: int) -> None:
    torch.manual_seed(0)
    settings = EncoderSettings(backbone=backbone, width=16, layers=1)
    encoder = Encoder(n_steps, False, settings, components, 2)
    for part in (encoder.direct.linear, encoder.direct.hidden[-1]):
        torch.nn.init.zeros_(part.weight)  # through the backbone alone
    x = torch.randn(2, n_steps * components + 2, requires_grad=True)
    y = encoder(x)
    assert y.shape == (2, 16)
    assert torch.isfinite(y).all()
    (gradient,) = torch.autograd.grad((y * torch.randn(16)).sum(), x)
    assert (gradient.abs() > 0).all()


def test_the_direct_path_is_there_with_every_backbone() -> None:
    x = _random(3, 42)
    for backbone in BACKBONES:
        torch.manual_seed(0)
        encoder = Encoder(41, False, EncoderSettings(backbone=backbone, width=16), 1, 1)
        alone = encoder.direct(encoder.standardise(x).flat)
        assert encoder.backbone is not None and encoder.tokens is not None
        padded = torch.nn.functional.pad(encoder.standardise(x).steps, (0, 0, 0, 3))
        torch.testing.assert_close(encoder(x), alone + encoder.backbone(encoder.tokens(padded)))
    alone = Encoder(41, False, EncoderSettings(backbone="mlp", width=16), 1, 1)
    torch.testing.assert_close(alone(x), alone.direct(alone.standardise(x).flat))


def test_observations_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 41)
    for backbone in BACKBONES:
        encoder = Encoder(41, False, EncoderSettings(backbone=backbone, width=16)).eval()
        with torch.no_grad():
            torch.testing.assert_close(encoder(x)[3:5], encoder(x[3:5]))


def test_at_most_150_steps_and_16_components() -> None:
    Encoder(150, False, EncoderSettings(width=8), 16)
    with pytest.raises(ValueError, match="at most 150 steps, got 151"):
        Encoder(151, False, EncoderSettings(width=8))
    with pytest.raises(ValueError, match="at most 16 components, got 17"):
        Encoder(20, False, EncoderSettings(width=8), 17)


@pytest.mark.parametrize(
    "bad", [{"width": 7}, {"width": 12}, {"layers": 0}, {"bach": 1}, {"inputs": "features"}]
)
def test_bad_settings(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        EncoderSettings(**bad)


def test_unpacking_is_the_inverse_of_flattening() -> None:
    """Values by step, then component, then context, as in ``Sequences.flat``."""
    values, context = _random(5, 20, 3), _random(5, 2, seed=1)
    module = Standardise(20, False, 3, 2)
    known = module(torch.cat([values.reshape(5, -1), context], dim=1))
    torch.testing.assert_close(known.amplitude, torch.asinh(values))
    torch.testing.assert_close(known.summary[:, 1:], context)
    assert module.n_inputs == 62
    assert known.steps.shape == (5, 20, module.n_features)
    assert known.flat.shape == (5, module.n_flat)


def test_the_shape_of_a_time_course_is_free_of_scale() -> None:
    x = 3 * _random(50, 41 * 2)
    module = Standardise(41, False, 2).fit(x)
    one, ten = module(x), module(10 * x)
    torch.testing.assert_close(one.shape, ten.shape)
    torch.testing.assert_close(module(-x).shape, -one.shape)
    # The size goes with it, in logarithms.
    difference = (ten.summary - one.summary)[:, 0]
    expected = np.log(10) / float(module.summary_spread[0])
    torch.testing.assert_close(difference, torch.full_like(difference, expected))
    size = one.summary[:, 0]
    assert abs(float(size.mean())) < 1e-5
    assert float(size.std()) == pytest.approx(1.0, abs=1e-4)
    rms = (x**2).mean(-1).sqrt()
    values = x.reshape(50, 41, 2)
    torch.testing.assert_close(one.shape, torch.asinh(2 * values / rms[:, None, None]))


def test_components_keep_their_relative_sizes() -> None:
    x = _random(50, 41, 2) * torch.tensor([10.0, 0.1])
    known = Standardise(41, False, 2).fit(x.flatten(1))(x.flatten(1))
    assert (known.shape[..., 0].std() / known.shape[..., 1].std()) > 30


def test_the_amplitude_is_on_one_scale() -> None:
    """The same noise looks the same beside a large response and beside a small one."""
    x = _random(51, 41) * torch.logspace(-1, 1, 51)[:, None]
    module = Standardise(41, False).fit(x)
    rms = (x**2).mean(-1).sqrt()
    assert float(module.scale) == pytest.approx(float(rms.median()), rel=1e-5)
    known = module(torch.cat([x, x[:1] + 0.01]))
    expected = torch.asinh(x / rms.median())
    torch.testing.assert_close(known.amplitude[:51, :, 0], expected)
    # Nothing is lost: the amplitude gives back what was observed, whatever its size.
    torch.testing.assert_close(torch.sinh(known.amplitude[:51, :, 0]) * module.scale, x)


def test_context_is_standardised_and_at_every_step() -> None:
    context = torch.stack([3 + 2 * _random(100), torch.full((100,), 7.0)], dim=1)
    x = torch.cat([_random(100, 20, seed=1), context], dim=1)
    known = Standardise(20, False, 1, 2).fit(x)(x)
    level, constant = known.summary[:, 1], known.summary[:, 2]
    assert abs(float(level.mean())) < 1e-5
    assert float(level.std()) == pytest.approx(1.0, abs=1e-4)
    torch.testing.assert_close(constant, torch.zeros(100))  # not divided by nothing
    assert (known.steps[:, :, 3] == level[:, None]).all()


def test_spectra_are_standardised_in_logarithms() -> None:
    log = _random(400, 20) + torch.arange(20)
    module = Standardise(20, True).fit(torch.exp(log))
    known = module(torch.exp(log))
    for features in (known.shape, known.amplitude):
        torch.testing.assert_close(features.mean(0), torch.zeros(20, 1), atol=1e-4, rtol=0)
        torch.testing.assert_close(features.std(0), torch.ones(20, 1), atol=1e-4, rtol=0)
    louder = module(5 * torch.exp(log))
    expected = np.log(5) / log.std(0)
    difference = (louder.amplitude - known.amplitude)[..., 0]
    torch.testing.assert_close(difference, expected.expand(400, 20), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(louder.shape, known.shape, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("logarithmic", [False, True])
def test_silence_is_finite(logarithmic: bool) -> None:
    module = Standardise(20, logarithmic)
    assert torch.isfinite(module(torch.zeros(2, 20)).flat).all()
    silence = torch.zeros(10, 20)
    assert torch.isfinite(module.fit(silence)(silence).flat).all()


def test_features_come_to_order_one() -> None:
    x = _random(500, 3).double() * torch.tensor([1e-9, 1.0, 1e6]) + torch.tensor([0.0, 5.0, 0.0])
    x = torch.cat([x.float(), torch.full((500, 1), 2.0)], dim=1)
    encoder = FeatureEncoder(4, EncoderSettings(backbone="mlp", inputs="features", width=8)).fit(x)
    torch.testing.assert_close(encoder.location[1:2], x[:, 1:2].median(0).values, atol=0.01, rtol=0)
    assert (encoder.spread > 0).all()
    seen: list[torch.Tensor] = []
    encoder.direct.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    assert encoder(x).shape == (500, 8)
    low, high = torch.quantile(seen[0], 0.25, dim=0), torch.quantile(seen[0], 0.75, dim=0)
    # asinh of an interquartile range of one around zero: about .96 long.
    torch.testing.assert_close((high - low)[:3], torch.full((3,), 0.96), atol=0.03, rtol=0)
    assert (seen[0][:, 3] == 0).all()


def test_a_density_is_told_the_summary_and_what_is_known() -> None:
    x = torch.cat([_random(40, 30), _random(40, 2, seed=1)], dim=1)
    encoder = Encoder(30, False, EncoderSettings(backbone="mlp", width=8), n_context=2).fit(x)
    embedding = Embedding(encoder)
    told = embedding(x)
    assert told.shape == (40, embedding.width) == (40, 8 + 3)
    torch.testing.assert_close(told[:, :8], encoder(x))
    torch.testing.assert_close(told[:, 8:], encoder.standardise(x).summary)
    features = FeatureEncoder(6, EncoderSettings(backbone="mlp", width=8)).fit(x[:, :6])
    torch.testing.assert_close(Embedding(features)(x[:, :6])[:, 8:], features.known(x[:, :6]))
