"""What has been said about a recipe so far, by whom and where: the layers before they become a Recipe."""

import copy
import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from poise.dialects import RENAMED, REWORDED
from poise.errors import RecipeError
from poise.recipe_faults import UNKNOWN, show
from poise.recipe_yaml import Fault, KeyPath, Place, YamlText, read_scalar, read_yaml
from poise.secrets import HIDDEN, redacted

Kind = Literal["default", "caller", "file", "pipeline", "command line", "adjusted"]
LAYERS: tuple[Kind, ...] = ("caller", "file", "pipeline", "command line")
"""Who says what a recipe is; the later one wins."""


@dataclass(frozen=True)
class Origin:
    """Where a value came from; `text` is what a person reads, such as `zephyr.yaml:12`."""

    kind: Kind
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Note:
    """A key that was accepted and does not act as written, and why."""

    key: str
    place: str
    why: str

    def __str__(self) -> str:
        return f"{self.place}: {self.key}: {self.why}"


@dataclass(frozen=True)
class Setting:
    """One key as it was given: what it is called here, as it was spelled, its value and where."""

    key: str
    spelled: str
    value: Any
    origin: Origin
    place: Place
    text: str | None = None
    file: YamlText | None = None

    def place_of(self, path: KeyPath) -> Place:
        """Return the place of the value at a path that begins with this key, or of the nearest thing around it."""
        return self._nearest(path, self.file.places if self.file else {})

    def place_of_key(self, path: KeyPath) -> Place:
        """Return the place of the key at the end of a path, or of the nearest one around it."""
        return self._nearest(path, self.file.keys if self.file else {})

    def _nearest(self, path: KeyPath, places: Mapping[KeyPath, Place]) -> Place:
        spelled = (self.spelled, *path[1:])
        around = (spelled[:length] for length in range(len(spelled), 0, -1))
        return next((places[part] for part in around if part in places), self.place)


class Draft:
    """What has been said so far: settings by key, faults and notes."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.settings: dict[str, Setting] = {}
        self.faults: list[Fault] = []
        self.notes: list[Note] = []

    def add_caller(self, values: Mapping[str, Any]) -> None:
        """Add what Python code passed: the lowest layer."""
        for key, value in values.items():
            place = Place(f"from the caller: {key}={show(value)}")
            self.add(key, copy.deepcopy(value), Origin("caller", "caller"), place)

    def add_given(self, values: Mapping[str, Any], by: str) -> None:
        """Add what follows from a stage's place in a pipeline."""
        for key, value in values.items():
            self.add(key, value, Origin("pipeline", by), Place(f"{by}: {key}={show(value)}"))

    def add_file(self, file: YamlText, kind: Literal["file", "pipeline"] = "file") -> None:
        """Add what a recipe file, or a part of a pipeline's file, says."""
        self.faults += file.faults
        for key, value in file.values.items():
            place = file.keys[(key,)]
            name = place.label.rsplit(":", 2)[0]
            text = f"{name}:{place.line}" if place.line else place.label
            self.add(key, value, Origin(kind, text), place, file=file)

    def add_override(self, override: str) -> None:
        """Add one `key=value` of the command line: the highest layer."""
        head, equals, text = override.removeprefix("--").partition("=")
        place = Place(f"on the command line: {_one_line(override)}")
        key, *inner = head.split(".") if head else [""]
        if not equals or not key:
            self.faults.append(Fault(place, "expected key=value", f"write {key or 'key'}=…"))
            return
        key = key.replace("-", "_")
        if inner:
            self.add_inner(key, inner, read_override(text), place)
        else:
            self.add(key, read_override(text), Origin("command line", "command line"), place, text)

    def add_inner(self, spelled: str, inner: list[str], value: Any, place: Place) -> None:
        """Override one value inside a mapping or list; what is around it keeps the place it came from."""
        key = RENAMED.get(spelled, spelled)
        before = self.settings.get(key)
        inner = [".".join(inner)] if key == "dataset_mixer" else inner
        whole = copy.deepcopy(before.value) if before else {}
        if not put(whole, inner, value):
            self.faults.append(Fault(place, f"there is no {'.'.join(inner)!r} in {key} to override"))
            return
        changed = f"command line: {'.'.join([key, *inner])}"
        origin = Origin("command line", f"{before.origin}, then {changed}" if before else changed)
        self.settings[key] = Setting(key, key, whole, origin, place)

    def add(
        self,
        spelled: str,
        value: Any,
        origin: Origin,
        place: Place,
        text: str | None = None,
        file: YamlText | None = None,
    ) -> None:
        """Add one key under the name it has here; a later layer wins, one file may say it once."""
        key = RENAMED.get(spelled, spelled)
        before = self.settings.get(key)
        if before and file is not None and before.file is file:
            what = f"{spelled!r} and {before.spelled!r} (line {before.place.line}) are two spellings of one key"
            self.faults.append(Fault(place, what, "keep one of the two"))
            return
        if spelled in REWORDED and isinstance(value, bool):
            value, text = REWORDED[spelled][value], None
        self.settings[key] = Setting(key, spelled, value, origin, place, text, file)

    def blame(self, path: KeyPath, what: str, remedy: str = "") -> None:
        """Add a fault at the value a path leads to, or about the recipe as a whole if it says nothing there."""
        setting = self.settings.get(str(path[0]))
        if setting is None:
            place = Place(self.path.name if self.path else "the recipe")
        else:
            place = setting.place_of_key(path) if what.startswith(UNKNOWN) else setting.place_of(path)
        self.faults.append(Fault(place, what, remedy))

    def note(self, setting: Setting, why: str) -> None:
        """Say why a setting does not act as written."""
        self.notes.append(Note(setting.spelled, _short_place(setting), why))

    def drop(self, key: str, why: str) -> None:
        """Set a key aside, saying why."""
        self.note(self.settings.pop(key), why)

    def adjust(self, key: str, value: Any, why: str) -> None:
        """Replace a value, saying so."""
        setting = self.settings[key]
        self.note(setting, f"{show(value)} instead of {show(setting.value)}: {why}")
        origin = Origin("adjusted", f"adjusted: {why} ({setting.origin})")
        self.settings[key] = dataclasses.replace(setting, value=value, origin=origin, text=None)

    def problems(self) -> str:
        """Tell every fault, those of the file in its order and then those of the command line."""
        faults = sorted(self.faults, key=lambda fault: (not fault.place.line, fault.place.line, fault.place.column))
        count = "1 problem" if len(faults) == 1 else f"{len(faults)} problems"
        hidden = [f"… and {len(faults) - _SHOWN_FAULTS} more"] if len(faults) > _SHOWN_FAULTS else []
        lines = [f"{self.path or 'the recipe'} has {count}:", *map(str, faults[:_SHOWN_FAULTS]), *hidden]
        return redacted(_TOKEN_LINE.sub(HIDDEN, "\n".join(lines)))


_SHOWN_FAULTS = 50
_TOKEN_LINE = re.compile(r"(?<=hub_token=).+|(?<=hub_token: ).+")


def read_override(text: str) -> Any:
    """Read a value of the command line: a word, or YAML where it begins with a bracket or a quote."""
    if text[:1] in ("[", "{", '"', "'"):
        try:
            return read_yaml(f"value: {text}", "command line").values["value"]
        except RecipeError:
            return text  # such as a template, which begins with a brace too
    return read_scalar(text)


def put(whole: Any, inner: list[str], value: Any) -> bool:
    """Set the value at a path of mappings and lists, making mappings on the way; False where there is no way."""
    *way, last = inner
    for step in way:
        if isinstance(whole, dict):
            whole = cast("dict[str, Any]", whole).setdefault(step, {})
        elif isinstance(whole, list) and step.isdecimal() and int(step) < len(cast("list[Any]", whole)):
            whole = cast("list[Any]", whole)[int(step)]
        else:
            return False
    if isinstance(whole, dict):
        whole[last] = value
    elif isinstance(whole, list) and last.isdecimal() and int(last) < len(cast("list[Any]", whole)):
        whole[int(last)] = value
    else:
        return False
    return True


def _short_place(setting: Setting) -> str:
    return str(setting.origin) if setting.origin.kind != "command line" else setting.place.label


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 120 else f"{line[:119]}…"
