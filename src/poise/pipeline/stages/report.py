"""Report as a stage: one page over everything before it. A pipeline that does not name it ends with it all the same."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poise.pipeline.file import Step
from poise.pipeline.record import Record
from poise.pipeline.work import Chain, Keys, NothingBefore, Work, checked, local
from poise.run import EVALUATION, EVIDENCE, MANIFEST, SAMPLES, Run

if TYPE_CHECKING:
    from poise.report.verdict import Verdict

MAIN_KEY = "title"
TOLD = (MANIFEST, "curation.json", "merge.json", EVIDENCE, SAMPLES)
"""Files of a stage that its part of the page depends on."""


class ReportKeys(Keys):
    """The page's heading."""

    title: str = "What the training changed"


def plan(step: Step, chain: Chain) -> Work:
    """Resolve a report."""
    title = checked(step, ReportKeys).title
    if not chain.folders:
        raise NothingBefore("there is no stage before it to tell of\n    to do:  write `report` last, or leave it out")
    page = chain.pipeline.out / "report.html"

    def run(resume: bool) -> dict[str, Any]:
        from poise.report.report import build_report

        verdict = build_report(chain.folders, page, title=title, evidence=chain.evidence, evaluations=chain.evaluations)
        verdict.tell()
        return verdict.to_json()

    folders = [*chain.folders, *([chain.evidence] if chain.evidence else [])]
    return Work(
        values={"title": title},
        reads=local(
            *(str(folder / name) for folder in folders for name in TOLD),
            *(str(one / EVALUATION) for one in chain.evaluations),
        ),
        writes=(page,),
        after=chain,
        run=run,
    )


def report_of(out: Path, page: Path, *, evaluations: Sequence[Path] = ()) -> "Verdict":
    """Write the report of a pipeline's folder, as far as it has come."""
    from poise.report.report import build_report

    done = [name for name, stage in Record(out).stages.items() if stage["status"] == "done"]
    folders = [out / name for name in done if not name.endswith(("-evaluate", "-report"))]
    evaluated = [out / name for name in done if name.endswith("-evaluate")]
    evidence = evaluated[-1] if evaluated else None
    beside = _measured(evidence) if evidence else []
    return build_report(folders, page, evidence=evidence, evaluations=[*beside, *evaluations])


def _measured(folder: Path) -> list[Path]:
    """Return what was measured of each model beside its answers, in the order of the models."""
    labels: list[str] = Run(folder).evidence()["labels"]
    found = (file.parent for file in sorted(folder.glob(f"*/*/{EVALUATION}")) if file.parent.name in labels)
    return sorted(found, key=lambda one: labels.index(one.name))
