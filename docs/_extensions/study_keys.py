"""The directives ``study-keys`` and ``study-prior``: tables of the study file, from its models."""

import re
from dataclasses import fields, is_dataclass

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from numpydoc.docscrape import ClassDoc
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

_UNIT = re.compile(r", (Hz|s|uV|mm)\b")


def _models():
    from nmm_infer.anatomy import HeadSettings
    from nmm_infer.observation import EvokedProtocol, SpontaneousProtocol
    from nmm_infer.parameters import Parameter
    from nmm_infer.settings import DensitySettings, EncoderSettings, TrainingSettings
    from nmm_infer.study import Budget, ColumnSettings, ConnectomeSettings, PriorRange, Study

    study = Study.evoked()
    return {
        "study": (Study, None, Study),
        "evoked": (EvokedProtocol, None, None),
        "spontaneous": (SpontaneousProtocol, None, None),
        "prior": (PriorRange, None, Parameter),
        "connectome": (ConnectomeSettings, study.connectome, None),
        "column": (ColumnSettings, ColumnSettings(), None),
        "head": (HeadSettings, study.head, HeadSettings),
        "budget": (Budget, study.budget, None),
        "encoder": (EncoderSettings, study.encoder, None),
        "density": (DensitySettings, study.density, None),
        "pretraining": (TrainingSettings, study.pretraining, None),
        "training": (TrainingSettings, study.training, None),
        "finishing": (TrainingSettings, study.finishing, None),
    }


def _fields(model):
    """Fields of a pydantic model, or of a plain dataclass as if it were one."""
    if not is_dataclass(model):
        return model.model_fields
    return {f.name: FieldInfo(default=f.default, annotation=f.type) for f in fields(model)}


def _documented(cls):
    """Descriptions from the Parameters section of a class, by name."""
    found = {}
    if cls is not None:
        for item in ClassDoc(cls)["Parameters"]:
            for name in item.name.split(","):
                found[name.strip()] = " ".join(item.desc)
    return found


def _toml(value):
    if value is None:
        return "absent"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(part) for part in value)}]"
    return f"{value:,}".replace(",", "_") if isinstance(value, int) else f"{value:g}"


def _choices(annotation):
    text = str(annotation)
    return re.findall(r"'(\w+)'", text) if "Literal" in text else []


def _limits(field):
    signs = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    parts = []
    for item in field.metadata:
        for name, word in signs.items():
            if getattr(item, name, None) is not None:
                parts.append(f"{word} {getattr(item, name):g}")
        if getattr(item, "multiple_of", None) is not None:
            parts.append(f"a multiple of {item.multiple_of:g}")
    return ", ".join(parts)


class _Table(Directive):
    has_content = False

    def table(self, head, rows, widths):
        lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", ""]
        for row in (head, *rows):
            for i, cell in enumerate(row):
                lines.append(f"   {'*' if i == 0 else ' '} - {cell}".rstrip())
        node = nodes.Element()
        self.state.nested_parse(StringList(lines, source="study"), self.content_offset, node)
        return node.children


class StudyKeys(_Table):
    """One section of the study file: key, default, unit, meaning."""

    required_arguments = 1

    def run(self):
        model, values, source = _models()[self.arguments[0]]
        documented = _documented(source)
        rows = []
        for name, field in _fields(model).items():
            default = field.default
            if values is not None:
                default = getattr(values, name)
            elif field.default_factory is not None:
                continue  # a section of its own
            meaning = field.description or documented.get(name, "")
            if not meaning and name == "kind":
                meaning = "chooses the protocol"
            unit = _UNIT.search(meaning)
            meaning = _UNIT.sub("", meaning)
            if choices := _choices(field.annotation):
                listed = ", ".join(f'``"{c}"``' for c in choices)
                meaning = f"{meaning} ({listed})" if len(choices) > 1 else meaning
            if limits := _limits(field):
                meaning = f"{meaning}; {limits}"
            required = default is PydanticUndefined
            shown = "required" if required else f"``{_toml(default)}``"
            if default is None or default != default:
                shown = "absent"
            rows.append((f"``{name}``", shown, unit.group(1) if unit else "", meaning))
        return self.table(("key", "default", "unit", "meaning"), rows, "20 16 8 56")


class StudyPrior(_Table):
    """The default prior of one kind of study."""

    required_arguments = 1

    def run(self):
        from nmm_infer.study import Study

        rows = []
        study = getattr(Study, self.arguments[0])()
        for p in study.build_prior().parameters:
            numbers = f"{p.low:g}" if p.distribution == "fixed" else f"{p.low:g}, {p.high:g}"
            rows.append(
                (
                    f"``{p.name}``",
                    f"``{p.unit}``",
                    p.distribution,
                    numbers,
                    "synaptic" if p.name in study.synaptic else "nuisance",
                    p.source,
                )
            )
        head = ("parameter", "unit", "distribution", "low, high", "role", "source")
        return self.table(head, rows, "16 10 14 12 10 38")


def setup(app):
    app.add_directive("study-keys", StudyKeys)
    app.add_directive("study-prior", StudyPrior)
    return {"version": "1", "parallel_read_safe": True}
