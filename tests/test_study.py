"""Studies: defaults, files, and errors that name the key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nmm_infer.errors import InputError
from nmm_infer.observation import EvokedProtocol, SpontaneousProtocol
from nmm_infer.study import Study

FULL = """
seed = 7
model = "jansen_rit"

[protocol]
kind = "evoked"
tmax = 0.25
region = "cuneus-lh"
inverse = "sLORETA"

[prior.A]
distribution = "uniform"
low = 3.0
high = 4.0

[prior.coupling]
distribution = "fixed"
low = 5.0

[budget]
training = 500
draws = 300

[encoder]
backbone = "transformer"
width = 16

[density]
kind = "maf"

[training]
epochs = 3
"""


def _write(path: Path, text: str) -> Path:
    path = path / "study.toml"
    path.write_text(text)
    return path


def test_defaults() -> None:
    evoked, spontaneous = Study.evoked(), Study.spontaneous()
    assert isinstance(evoked.protocol, EvokedProtocol)
    assert isinstance(spontaneous.protocol, SpontaneousProtocol)
    assert evoked == Study()
    for study in (evoked, spontaneous):
        prior = study.build_prior()
        assert set(study.synaptic) == {"A", "B", "a", "b", "C"} < set(prior.names)
        assert all(unit for unit in prior.units)
        assert all(p.source for p in prior.parameters)
        assert np.isfinite(prior.sample(100, seed=0)).all()
        # Jansen and Rit's own column lies inside.
        for name, value in {"A": 3.25, "B": 22, "a": 100, "b": 50, "C": 135}.items():
            assert prior[name].low < value < prior[name].high
    assert "stimulus_onset" in evoked.build_prior().names
    assert "stimulus_onset" not in spontaneous.build_prior().names


def test_a_file_is_read(tmp_path: Path) -> None:
    study = Study.read(_write(tmp_path, FULL))
    assert study.seed == 7
    assert study.protocol.tmax == 0.25
    assert study.protocol.region == "cuneus-lh"
    assert study.protocol.inverse == "sLORETA"
    assert study.protocol.tmin == -0.1  # a default
    assert (study.budget.training, study.budget.draws) == (500, 300)
    assert study.budget.predictive == 200
    assert (study.encoder.backbone, study.encoder.width) == ("transformer", 16)
    prior = study.build_prior()
    assert (prior["A"].low, prior["A"].high, prior["A"].unit) == (3.0, 4.0, "mV")
    assert prior["coupling"].distribution == "fixed"
    assert prior["B"] == Study().build_prior()["B"]
    assert prior.names == Study().build_prior().names


def test_round_trip(tmp_path: Path) -> None:
    study = Study.read(_write(tmp_path, FULL))
    assert Study.read(_write(tmp_path, FULL)).build_prior() == study.build_prior()
    lines = [f"seed = {study.seed}"]
    schedules = ("training", "pretraining", "finishing")
    for table in ("protocol", "budget", "encoder", "density", *schedules):
        lines.append(f"[{table}]")
        for key, value in getattr(study, table).model_dump().items():
            if value is not None:
                text = str(value).lower() if isinstance(value, bool) else repr(value)
                lines.append(f"{key} = {text}".replace("'", '"'))
    for name, change in study.prior.items():
        lines += [f"[prior.{name}]", f'distribution = "{change.distribution}"']
        lines += [f"low = {change.low}", f"high = {change.high}"]
    written = Study.read(_write(tmp_path, "\n".join(lines)))
    assert written.model_dump(exclude={"prior"}) == study.model_dump(exclude={"prior"})
    assert written.build_prior().names == study.build_prior().names
    np.testing.assert_array_equal(
        written.build_prior().sample(5, seed=0), study.build_prior().sample(5, seed=0)
    )


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    assert Study.read(_write(tmp_path, "")) == Study.evoked()
    assert Study.read(_write(tmp_path, "[protocol]\ntmax = 0.2\n")).protocol.kind == "evoked"
    spontaneous = Study.read(_write(tmp_path, '[protocol]\nkind = "spontaneous"\n'))
    assert isinstance(spontaneous.protocol, SpontaneousProtocol)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sede = 1", r"unknown key 'sede': did you mean 'seed'\?$"),
        ("[protocol]\ntmux = 1", r"unknown key 'protocol\.tmux': did you mean 'protocol\.tmax'\?$"),
        (
            "[budget]\ntrainig = 500",
            r"unknown key 'budget\.trainig': did you mean 'budget\.training'\?$",
        ),
        (
            '[protocol]\nkind = "spontaneous"\ntmax = 1',
            r"key 'protocol\.tmax'; there are sensors, ",
        ),
        ("[column]\nzzz = 3", r"unknown key 'column\.zzz'; there are stimulus, "),
        ("[budget]\ntraining = 3", r"budget\.training: .*100"),
        ("[protocol]\nl_freq = 50.0", "protocol: l_freq .50.* must be below"),
        ('[protocol]\nkind = "resting"', "protocol"),
        ('[encoder]\nbackbone = "cnn"', r"encoder\.backbone"),
        ("seed = -1", "seed"),
        ('model = "hodgkin"', "no model 'hodgkin'"),
        ('[prior.A]\ndistribution = "uniform"\nlow = 4.0\nhigh = 3.0', "prior of 'A'.*below high"),
        ('[prior.A]\ndistribution = "uniform"\nlow = 4.0', "prior of 'A'.*finite"),
        ('[prior.A]\ndistribution = "gamma"\nlow = 4.0', r"prior\.A\.distribution"),
        ('[prior.A_e]\ndistribution = "fixed"\nlow = 4.0', "no parameter 'A_e'; there are A, B"),
        ("seed = = 1", "not a TOML file"),
        ("[protocol]\ntmax = inf", r"protocol\.tmax: .*finite"),
        ("[protocol]\nnotch = 1.0", r"protocol\.notch: .*10"),
        ("[protocol]\nnotch = inf", r"protocol\.notch: .*finite"),
        ("[protocol]\nbaseline = [-0.5, 0.0]", "protocol: baseline: -0.5 to 0.0 s is not within"),
        ("[column]\nstimulus.nowhere = 1.0", r"column\.stimulus: .*no target 'nowhere'"),
        ('[column]\nmontage = "cap"', r"column\.montage: MNE has no montage 'cap'"),
        ('[protocol]\nreference = "Cz"', r'protocol\.reference: .* in a list: \["Cz"\]'),
    ],
)
def test_errors_name_key_and_file(tmp_path: Path, text: str, why: str) -> None:
    path = _write(tmp_path, text)
    with pytest.raises(InputError, match=why) as error:
        Study.read(path)
    assert str(error.value).startswith(f"{path}: ")


def test_rejection_can_be_switched_off_in_a_file(tmp_path: Path) -> None:
    study = Study.read(_write(tmp_path, "[protocol]\nreject = inf\nreject_meg = inf\n"))
    assert set(study.protocol.thresholds.values()) == {float("inf")}


def test_a_used_default_can_still_be_changed(tmp_path: Path) -> None:
    Study().build_prior()["A"].log_density(3.0)
    study = Study.read(_write(tmp_path, '[prior.A]\ndistribution = "uniform"\nlow = 3\nhigh = 4'))
    assert study.build_prior()["A"].quantile(0.5) == 3.5


def test_a_missing_or_binary_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such study file"):
        Study.read(tmp_path / "none.toml")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a TOML file"):
        Study.read(tmp_path / "b.toml")


MODEL_FILE = """
from pathlib import Path
from nmm_infer.models import Constant, Model, Output, State, register_model

Path(__file__).with_name("ran").touch()


def derivative(y, drive, k):
    return (k * (drive - y),)


def value(y):
    return y


register_model(
    Model(
        name="of_a_stranger", states=(State("y", "1/s"),),
        constants=(Constant("k", "1/s", 50.0, 1.0, 500.0, "example"),), targets=("drive",),
        derivative=derivative, outputs=(Output("value", "1/s", value),), rates=("k",),
    )
)
"""
NAMES_A_FILE = 'model = "of_a_stranger"\nmodel_file = "stranger.py"\n'


def test_a_model_file_runs_only_when_trusted(tmp_path: Path) -> None:
    (tmp_path / "stranger.py").write_text(MODEL_FILE)
    path = _write(tmp_path, NAMES_A_FILE)
    with pytest.raises(InputError, match=r"stranger\.py, Python code that would be run: .*trust-m"):
        Study.read(path)
    assert not (tmp_path / "ran").exists()
    # A wrong key is refused first, and nothing runs either.
    with pytest.raises(InputError, match="unknown key"):
        Study.read(_write(tmp_path, NAMES_A_FILE + "sede = 1"))
    assert not (tmp_path / "ran").exists()
    study = Study.read(_write(tmp_path, NAMES_A_FILE), trust_model_file=True)
    assert (tmp_path / "ran").exists()
    assert study.declaration.name == "of_a_stranger"
    # Made in Python it is the user's own code.
    own = Study(model="of_a_stranger", model_file=str(tmp_path / "stranger.py"))
    assert own.build_prior().names == study.build_prior().names


def test_a_study_without_a_model_file_needs_no_trust(tmp_path: Path) -> None:
    path = _write(tmp_path, FULL)
    assert Study.read(path, trust_model_file=True) == Study.read(path)


def test_replace() -> None:
    study = Study(seed=1)
    changed = study.replace(protocol={"region": "cuneus-lh"}, seed=2, budget={"draws": 111})
    assert changed.protocol.region == "cuneus-lh"
    assert changed.protocol.tmax == study.protocol.tmax
    assert (changed.seed, study.seed) == (2, 1)
    assert changed.budget.draws == 111
    assert changed.budget.training == study.budget.training
    assert study.protocol.region is None
    with pytest.raises(InputError, match="unknown key 'sede'"):
        study.replace(sede=3)
    with pytest.raises(InputError, match="seed"):
        study.replace(seed=-3)
    with pytest.raises(InputError, match="l_freq"):
        study.replace(protocol={"l_freq": 99.0})
