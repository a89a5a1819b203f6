"""Data named as a training recipe names it, as entries of `sources`.

    dataset_mixer: {boolq: 0.5, my.jsonl: 1.0}          sources:
    dataset_splits: [train_1, test]              ──>    - {source: boolq, split: train_1, fraction: 0.5, …}
                                                        - {path: my.jsonl, split: train_1, …}
                                                        - {source: boolq, split: test, held_out: true, …}
                                                        …

What the keys mean, and their mistakes, are those of `poise.recipe_sections.DataSection`: a fraction holds for every
training split of its dataset, and test splits are held out whole. As with every source, a fraction or count is taken of
the rows that the steps leave, by hash of the id.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from poise.dialects import RENAMED
from poise.names import did_you_mean, names_in
from poise.recipe_faults import UNKNOWN, explain
from poise.recipe_sections import DATA_KEYS, DataSection, DatasetEntry, DatasetMixture, DatasetPart
from poise.recipe_yaml import Fault, KeyPath, Place, YamlText

KEYS = frozenset[str]().union(*DATA_KEYS.values())


def mix(text: YamlText) -> Iterator[Fault]:
    """Replace the keys of a training recipe's data by sources, behind those that are there."""
    yield from _respell(text)
    given = {key: text.values.pop(key) for key in KEYS & text.values.keys()}
    if not given:
        return
    try:
        section = DataSection(**given)
    except ValidationError as error:
        for at, what, remedy in explain(error, given):
            yield Fault(_place(text, at), what + (_near(at) if what.startswith(UNKNOWN) else ""), remedy)
        text.values.setdefault("sources", [{"path": "unknown"}])  # what is wrong with the data is told already
        return
    sources = text.values.setdefault("sources", [])
    if isinstance(sources, list):
        for entry, place in _entries(section, text):
            text.keys["sources", len(sources)] = place
            sources.append(entry)
    yield from _draw(section, text)


def _respell(text: YamlText) -> Iterator[Fault]:
    """Give keys the names they have here, with their places."""
    for old in [key for key in text.values if RENAMED.get(key) in KEYS]:
        key = RENAMED[old]
        if key in text.values:
            yield Fault(
                _place(text, (old,)), f"{old!r} and {key!r} are two spellings of one key", "keep one of the two"
            )
            del text.values[old]
            continue
        text.values[key] = text.values.pop(old)
        for places in (text.keys, text.places):
            places.update({(key, *path[1:]): place for path, place in places.items() if path[:1] == (old,)})


def _entries(section: DataSection, text: YamlText) -> Iterator[tuple[dict[str, Any], Place]]:
    parts = [(part, False) for part in section.train_parts] + [(part, True) for part in section.test_parts]
    often = Counter(part.name for part, _ in parts)
    configs = Counter((part.name, part.split) for part, _ in parts)
    for number, (part, held_out) in enumerate(parts):
        entry = _where(part)
        if often[part.name] > 1:
            config = part.config if configs[part.name, part.split] > 1 else None
            entry["name"] = "_".join(filter(None, (_base(part), config, part.split)))
        if held_out:
            entry["held_out"] = True
        elif part.count is not None:
            entry["count"] = part.count
        elif part.fraction < 1:
            entry["fraction"] = part.fraction
        inner = {"dataset_mixer": (part.name,), "dataset_mixture": ("datasets", number)}.get(section.way, ())
        yield entry, _place(text, (section.way, *inner))


def _where(part: DatasetPart) -> dict[str, Any]:
    """Say where a part lies: a path that exists wins, then a name of the catalog, then it is an id on the Hub."""
    in_catalog = not Path(part.name).expanduser().exists() and part.name in names_in("poise.catalog")
    given = {"config": part.config, "split": part.split, "revision": part.revision, "columns": part.columns}
    return {"source" if in_catalog else "path": part.name} | {key: value for key, value in given.items() if value}


def _base(part: DatasetPart) -> str:
    path = Path(part.name).expanduser()
    return path.name if path.exists() else part.name


def _draw(section: DataSection, text: YamlText) -> Iterator[Fault]:
    """Take over the seed and the size of the test split that a `dataset_mixture` says."""
    mixture = section.dataset_mixture
    if mixture is None:
        return
    if mixture.test_split_size is not None:
        if "split" in text.values:
            place = _place(text, ("dataset_mixture", "test_split_size"))
            yield Fault(place, "`split` says what is held out too", "keep one of the two")
        text.values.setdefault("split", {"test": mixture.test_split_size})
    if "seed" in mixture.model_fields_set and text.values.setdefault("seed", mixture.seed) != mixture.seed:
        place = _place(text, ("dataset_mixture", "seed"))
        yield Fault(
            place, f"the recipe's `seed` is {text.values['seed']}", "one seed draws everything; keep one of them"
        )


def _near(path: KeyPath) -> str:
    fields = DatasetEntry.model_fields if "datasets" in path else DatasetMixture.model_fields
    return did_you_mean(str(path[-1]), fields)


def _place(text: YamlText, path: KeyPath) -> Place:
    """Return the place of a key, or of the nearest thing around it."""
    for length in range(len(path), 0, -1):
        for places in (text.keys, text.places):
            if path[:length] in places:
                return places[path[:length]]
    return Place("the recipe")
