"""Cinematika v0.1, its plain text: scenes of film scripts.

https://huggingface.co/datasets/jondurbin/cinematika-v0.1

    {"scene_by_scene": "[scenario] …"}                  scene_by_scene.parquet, a document each
    {"plain_scenes": "INT. BAR - NIGHT …", "index": 7}  plain_scenes.parquet, packed in the order of `index`
"""

from collections.abc import Iterable, Iterator
from operator import itemgetter

from poise.examples import Document
from poise.sources.dataset import About, Bad, Left, Schema, SourceRow, check
from poise.sources.refusal import RowError

SCENE_BY_SCENE: Schema = {"scene_by_scene": str}
PLAIN: Schema = {"plain_scenes": str, "index": int}

ABOUT = About(
    hub="jondurbin/cinematika-v0.1",
    columns={},  # each of the two files has its own, which are checked below
    files=("scene_by_scene.parquet", "plain_scenes.parquet"),
    licence="cc-by-nc-4.0",
    confidence=3,
)


def read_all(rows: Iterable[SourceRow], *, max_words: int = 3000) -> Iterator[Document | Left | Bad]:
    """Make a document of each `scene_by_scene`, and of as many neighbouring plain scenes as `max_words` holds.

    A single scene of more words stands alone, whole. The default is bagel's limit, 4,096 tokens, at four tokens to
    three words.
    """
    plain: list[SourceRow] = []
    for row in rows:
        is_plain = "plain_scenes" in row.columns
        refused = _refused(row, PLAIN if is_plain else SCENE_BY_SCENE)
        if refused is not None:
            yield refused
        elif is_plain:
            plain.append(row)
        else:
            yield Document(row["scene_by_scene"], lineage=(row.place,))
    for pack in _packs(sorted(plain, key=itemgetter("index")), max_words):
        yield Document("\n\n".join(row["plain_scenes"] for row in pack), lineage=tuple(row.place for row in pack))


def _refused(row: SourceRow, schema: Schema) -> Left | Bad | None:
    try:
        check(row.columns, schema)
    except RowError as error:
        return Bad(row.place, error)
    text = next(iter(schema))
    return None if row[text].strip() else Left(row.place, "empty text", text)


def _packs(scenes: list[SourceRow], max_words: int) -> Iterator[list[SourceRow]]:
    """Yield neighbours that together have no more than `max_words`; what is left at the end is a pack too."""
    pack: list[SourceRow] = []
    words = 0
    for scene in scenes:
        length = len(scene["plain_scenes"].split())
        if pack and words + length > max_words:
            yield pack
            pack, words = [], 0
        pack.append(scene)
        words += length
    if pack:
        yield pack
