"""Every code that a complaint of poise can carry: what it means, why it matters, what to do, where the fact is from.

The letter is the severity: E stops the run, W is told and kept in the run, N is worth knowing. The first digit is the
subject: 0 files, 1 rates and steps, 2 lengths, 3 the chat template, 4 rows, 5 the machine, 6 the model.
"""

from dataclasses import asdict, dataclass
from typing import Literal

from poise.errors import RecipeError
from poise.names import did_you_mean

OWN = "poise's own choice, no published value: a tenth and a half are where a look, and a stop, cost least"
BY_DEFINITION = "follows from the definitions; nothing is estimated"
SEVERITIES: dict[str, Literal["error", "warning", "note"]] = {"E": "error", "W": "warning", "N": "note"}


@dataclass(frozen=True)
class Code:
    """What `poise explain` says of one code."""

    code: str
    title: str
    why: str
    remedy: str
    source: str
    """The paper, measurement or rule behind it."""
    is_final: bool = False
    """Whether `ignore` cannot set it aside: the run could not be sound."""

    @property
    def severity(self) -> Literal["error", "warning", "note"]:
        """What the letter of the code says."""
        return SEVERITIES[self.code[0]]

    def to_json(self) -> dict[str, object]:
        """Return it as plain data."""
        return {**asdict(self), "severity": self.severity}


def told(code: Code) -> str:
    """Write a code in full."""
    last = " It cannot be ignored." if code.is_final else f" ignore={code.code} sets it aside."
    return (
        f"{code.severity} {code.code}: {code.title}\n"
        f"  why     {code.why}\n"
        f"  to do   {code.remedy}{last if code.severity != 'note' else ''}\n"
        f"  source  {code.source}"
    )


def explain(code: str) -> Code:
    """Return what there is to say of a code; RecipeError where there is none of that name."""
    wanted = code.upper()
    if wanted not in CODES:
        raise RecipeError(
            f"there is no code {code!r}{did_you_mean(wanted, CODES)}\n    to do:  poise explain lists them"
        )
    return CODES[wanted]


def refuse_unknown(codes: list[str]) -> list[str]:
    """Return the codes a recipe wants set aside; ValueError where one is unknown or may not be."""
    for code in codes:
        if code not in CODES:
            raise ValueError(f"there is no code {code!r}{did_you_mean(code, CODES)}")
        if CODES[code].is_final:
            raise ValueError(f"{code} ({CODES[code].title}) cannot be ignored: the run could not be sound")
    return codes


def _degrees(letters: str, number: int, title: str, why: str, remedy: str, source: str) -> list[Code]:
    """Return one code for each severity of the same thing."""
    return [Code(f"{letter}{number}", title, why, remedy, source) for letter in letters]


SUBJECTS = {
    "0": "Files",
    "1": "Rates and steps",
    "2": "Lengths",
    "3": "The chat template",
    "4": "Rows and pairs",
    "5": "The machine",
    "6": "The model",
}


def as_tables() -> str:
    """Write every code as the tables of docs/preflight.md, one line for all degrees of the same thing."""
    parts: list[str] = []
    for digit, subject in SUBJECTS.items():
        parts += [f"### {subject}\n", "| code | finds | source |", "|---|---|---|"]
        same: dict[str, list[Code]] = {}
        for code in CODES.values():
            if code.code[1] == digit:
                same.setdefault(code.title, []).append(code)
        for title, codes in same.items():
            final = " *final*" if codes[0].is_final else ""
            parts.append(f"| {' '.join(f'`{each.code}`' for each in codes)}{final} | {title} | {codes[0].source} |")
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


_BEFORE = [
    Code(
        "E001",
        "the recipe or the command line is wrong",
        "What a key means must be sure before anything is read.",
        "Every problem is listed with its line and column; mend them all at once.",
        BY_DEFINITION,
        is_final=True,
    ),
    Code(
        "E002",
        "a data file or a row cannot be read",
        "A row that is guessed at trains something nobody wrote.",
        "Mend the rows named, or on_bad_row=drop to leave them out, counted.",
        BY_DEFINITION,
        is_final=True,
    ),
    Code(
        "E003",
        "the model or tokenizer cannot be used as asked",
        "Nothing can be trained without it.",
        "Check the path or the Hub id; what is missing is named.",
        BY_DEFINITION,
        is_final=True,
    ),
    Code(
        "E004",
        "the run folder does not allow it",
        "Two runs in one folder would overwrite each other.",
        "--resume, --overwrite or another output_dir.",
        BY_DEFINITION,
        is_final=True,
    ),
]

_RATES = [
    *_degrees(
        "EW",
        101,
        "the learning rate is far above every published one",
        "Preference losses fall to 0 while the model forgets how to write; the curves look perfect meanwhile.",
        "learning_rate=… as the finding says; where it is meant, ignore the code.",
        "2 (warning) and 20 (error) times the highest published rate of the method, tuning and size: see "
        "preflight/learning_rate.py. SimPO's authors: 1e-5 'can significantly degrade performance'.",
    ),
    *_degrees(
        "WN",
        102,
        "the learning rate is below every published one",
        "The model hardly moves in the steps there are, and the run costs what a good one costs.",
        "learning_rate=… as the finding says.",
        "Below (note) and a tenth of (warning) the lowest published rate: see preflight/learning_rate.py.",
    ),
    Code(
        "W103",
        "the warmup lasts as long as the run",
        "The learning rate never reaches the value that the recipe gives.",
        "warmup_ratio=0.1, or more steps.",
        BY_DEFINITION,
    ),
    Code(
        "N104",
        "the run makes very few updates",
        "A schedule over fewer than ten updates is a few coarse jumps.",
        "A smaller per_device_train_batch_size or gradient_accumulation_steps, or more epochs.",
        "poise's own choice: the default warmup, a tenth, is then less than one update.",
    ),
    Code(
        "N105",
        "no checkpoint is written before the end",
        "A run that is killed starts again from nothing.",
        "A smaller save_steps; a value below 1 is a share of the run.",
        BY_DEFINITION,
    ),
    Code(
        "N106",
        "the run ends before its first evaluation",
        "The held-out rows are read and never used.",
        "A smaller eval_steps, or eval_strategy=epoch.",
        BY_DEFINITION,
    ),
    Code(
        "N107",
        "max_steps ends the run before all rows were seen",
        "The rows that are left out are chosen by the shuffle.",
        "Raise max_steps, or leave it out for whole epochs.",
        BY_DEFINITION,
    ),
    Code(
        "E108",
        "transformers refuses these training options together",
        "It would say so only after the model is loaded.",
        "Change the option it names.",
        "transformers' own checks of TrainingArguments and of the schedule, called early.",
        is_final=True,
    ),
    Code(
        "W109",
        "beta is outside everything published for this method",
        "It sets how far the policy may go: SimPO's 2 in DPO freezes it, DPO's 0.1 in SimPO leaves no margin.",
        "beta=… as the finding says.",
        "The ranges of papers and recipes, see preflight/beta.py; a warning from 10 times outside.",
    ),
    *_degrees(
        "WN",
        110,
        "weights in bfloat16 are too coarse for this learning rate",
        "An update smaller than half a step of the type is rounded away, so most weights keep their value.",
        "Leave torch_dtype out (float32 weights, bf16=true for speed), or use_peft=true.",
        "measured: 100 steps of AdamW move 1 % of the weights at 5e-7, 8 % at 5e-6, 30 % at 2e-5, 85 % at 1e-4 "
        "(400,000 weights of deviation 0.02)",
    ),
    Code(
        "W111",
        "the reference is the base under the adapter, not the model that training starts from",
        "Rewards would be measured from a model that was never fine-tuned; the first loss is not 0.693.",
        "Remove ref_model_name_or_path: the reference is then the policy at the start.",
        "LLaMA-Factory issue 8459: SFT with LoRA, then DPO with LoRA.",
    ),
    Code(
        "N111",
        "the reference is another model than the policy",
        "The first log-ratio is then not 0, and a second model takes memory.",
        "Remove ref_model_name_or_path unless that is meant.",
        "DPO starts from the reference (arXiv:2305.18290, section 4).",
    ),
]

_LENGTHS = [
    *_degrees(
        "EWN",
        201,
        "rows are lost because they are too long",
        "What is dropped is not a random part: it is the long answers.",
        "max_length=… as the finding says, or overlong=truncate_prompt.",
        OWN + " (10 % warns, 50 % stops).",
    ),
    Code(
        "E202",
        "rows are longer than the model has positions",
        "A learned position that is not there is an index error at the first such row.",
        "max_length=… at most the model's positions.",
        "the model's config: positions are a table of that size.",
        is_final=True,
    ),
    Code(
        "W202",
        "rows are longer than the model was trained on",
        "Rotary positions beyond the trained context are extrapolated, and quality falls there.",
        "max_length=… at most the model's positions, unless extending them is the aim.",
        "the model's config (max_position_embeddings); Chen et al. 2023, arXiv:2306.15595, on extrapolation.",
    ),
]

_TEMPLATE = [
    Code(
        "E301",
        "the template prompts with another text than it trains on",
        "The model would be asked to go on from a text it never saw.",
        "Make the generation prompt the beginning of an assistant turn, or name a shipped template.",
        "transformers' chat templates: add_generation_prompt.",
        is_final=True,
    ),
    Code(
        "E302",
        "the template cannot render a question and an answer",
        "Every row is rendered with it.",
        "Mend the template, or name a shipped one.",
        BY_DEFINITION,
        is_final=True,
    ),
    *_degrees(
        "EWN",
        303,
        "the template refuses or rewrites rows",
        "It leaves out system turns, wants other roles or strips text, so what the rows say would not be trained.",
        "Another chat_template, or rows that this one can hold.",
        OWN + " (1 % warns, 50 % stops: a template either fits a source or does not).",
    ),
    Code(
        "W304",
        "the template begins with its bos token twice",
        "Training writes it once; whatever serves the model will write it twice.",
        "Take one of the two out of the template.",
        "axolotl issue 1616, handbook issue 127: two bos at inference make answers worse.",
    ),
    Code(
        "W305",
        "eos_token is not the token that answers end in",
        "The template decides where an answer stops; the recipe's token is only a second stop.",
        "eos_token=… as the finding says, or a template that writes it.",
        "the rendering of a question and an answer.",
    ),
    Code(
        "W306",
        "the model was made with another chat template",
        "The policy would be compared on texts that its own reference has never seen.",
        "Leave chat_template out to keep the model's own.",
        "LLaMA-Factory issues 3096 and 2855: a template mismatch is silent.",
    ),
    Code(
        "E307",
        "answers have no trained stop token",
        "A model that never learns to stop does not stop.",
        "This should not happen; report it with the row.",
        "trl issues 1623, 734, 2059; measured: stop rate 0 % without a trained stop token.",
        is_final=True,
    ),
    Code(
        "N308",
        "assistant turns before the last are not trained",
        "The template writes them otherwise than inference would produce them, so they are context only.",
        "Nothing, or a template that writes every turn alike.",
        "Qwen3's and DeepSeek's templates drop the reasoning of earlier turns.",
    ),
]

_ROWS = [
    Code(
        "E401",
        "the source holds rows of another kind",
        "An objective cannot learn from them.",
        "The verb for these rows, or another source.",
        BY_DEFINITION,
        is_final=True,
    ),
    Code(
        "E402",
        "no row is left to train on",
        "A run on nothing would save the model it started from.",
        "Raise max_length, overlong=truncate_prompt, or look at the source.",
        BY_DEFINITION,
        is_final=True,
    ),
    *_degrees(
        "EWN",
        403,
        "chosen equals rejected",
        "Such pairs hold no preference and are dropped; many of them mean that columns were mixed up.",
        "Look at the rows: is rejected a copy of chosen, or a column of another run?",
        OWN + " (10 % warns, 50 % stops).",
    ),
    *_degrees(
        "EWN",
        404,
        "rows without an answer to train on",
        "Empty answers, or conversations without an assistant turn, are dropped.",
        "Look at the rows: is the answer in another column?",
        OWN + " (10 % warns, 50 % stops).",
    ),
    *_degrees(
        "WN",
        405,
        "chosen answers are longer (or shorter) nearly always",
        "Length is then the easiest thing to learn; DPO has no guard against it.",
        "Another objective (simpo, sigmoid_norm), ld_alpha below 1, or pairs of like length.",
        "Park et al. 2024, arXiv:2403.19159; Singhal et al. 2023, arXiv:2310.03716. Note from 80 %, warning from 95 % "
        "with twice the length and 50 tokens between; the limits are poise's own.",
    ),
    *_degrees(
        "WN",
        406,
        "pairs contradict each other",
        "The same two answers are preferred both ways round; their gradients cancel.",
        "Keep one of each, by a second look or a vote.",
        BY_DEFINITION + "; a warning from 5 % is poise's own choice.",
    ),
    Code(
        "N407",
        "most pairs reject the same answer",
        "Telling that one answer apart is all there is to learn from them.",
        "Rejected answers that differ with the question.",
        BY_DEFINITION + "; half is poise's own choice.",
    ),
    Code(
        "N408",
        "most rows give the same answer",
        "The model can give it without reading the question.",
        "Nothing where the answers are labels; else balance them.",
        BY_DEFINITION + "; half is poise's own choice.",
    ),
    Code(
        "N409",
        "rows stand in the data more than once",
        "A copy counts as another epoch on that row.",
        "poise curate with the step exact.",
        "Lee et al. 2021, arXiv:2107.06499; Hernandez et al. 2022, arXiv:2205.10487. No limit is published for "
        "fine-tuning, hence a note.",
    ),
    *_degrees(
        "WN",
        410,
        "held-out questions are trained on",
        "The evaluation then measures memory.",
        "dataset_mixture.test_split_size, which splits by question, or another test split.",
        BY_DEFINITION + "; a warning from 5 % of the held-out rows is poise's own choice.",
    ),
    *_degrees(
        "WN",
        411,
        "texts hold the markers of a chat template",
        "poise keeps them as text. In many rows they mean that a template was applied before, so it is applied twice.",
        "Give the messages as they were before any template.",
        "measured elsewhere: such text is tokenised as control tokens by other trainers; 20 % is poise's own choice.",
    ),
    *_degrees(
        "WN",
        412,
        "answers are what a program writes for nothing",
        "nan, undefined and [object Object] come from a failed export, and would be learned.",
        "Export the rows again, or leave these out.",
        "pandas, JavaScript; a warning from 1 % is poise's own choice.",
    ),
    Code(
        "N413",
        "texts hold replacement characters",
        "A file was once read in the wrong encoding; what stood there is lost.",
        "Read the source again in its own encoding.",
        "Unicode 16, section 23.8: U+FFFD.",
    ),
    *_degrees(
        "EWN",
        414,
        "rows were dropped because they are broken",
        "on_bad_row: drop leaves out what cannot be read.",
        "Read ledger.jsonl, or on_bad_row=error to see them all.",
        OWN + " (10 % warns, 50 % stops).",
    ),
    Code(
        "E415",
        "no held-out row is left to evaluate on",
        "eval_strategy asks for an evaluation, and all held-out rows were dropped.",
        "Raise max_length, name other test rows, or eval_strategy=no.",
        BY_DEFINITION,
        is_final=True,
    ),
    Code(
        "N416",
        "held-out rows are never evaluated",
        "They are read, and kept out of training, for nothing but the questions.",
        "eval_strategy=epoch.",
        BY_DEFINITION,
    ),
]

_MACHINE = [
    Code(
        "E501",
        "the device cannot compute as asked",
        "The type, the optimizer or the quantization needs what is not here.",
        "As the finding says.",
        "torch's and bitsandbytes' own answers.",
        is_final=True,
    ),
    Code(
        "W502",
        "all weights are trained in float16",
        "Updates and squared gradients below 6e-8 become 0, and AdamW divides by them.",
        "torch_dtype=float32 with bf16=true, or use_peft=true.",
        "Micikevicius et al. 2017, arXiv:1710.03740: float16 needs float32 weights and loss scaling.",
    ),
    Code(
        "N504",
        "the attention asked for is not to be had here",
        "sdpa computes the same function, at another speed.",
        "Nothing; remove attn_implementation to silence this.",
        "measured: equal within rounding, see docs/batch-and-prefix-sharing.md.",
    ),
    Code(
        "W506",
        "a tracker has no credentials",
        "It would ask for a key, or fail, once the model is loaded.",
        "Log in (the finding names the variable), or report_to=none.",
        "the trackers' documentation.",
    ),
    *_degrees(
        "EW",
        507,
        "the disk is too small for what will be written",
        "A disk that fills up in a save ends the run there.",
        "Free space, another output_dir, save_total_limit=1 or save_only_model=true.",
        "bytes of weights and of AdamW's two moments, times the checkpoints that stay. An error where the model alone "
        "does not fit.",
    ),
    *_degrees(
        "EW",
        508,
        "memory is too small for the model",
        "Weights, gradients and the optimizer's moments alone take more, before any activation.",
        "use_peft=true, load_in_4bit=true on CUDA, or a smaller model.",
        "bytes by parameter count (error); a probe's own forecast where there is one (warning).",
    ),
]

_MODEL = [
    Code(
        "E601",
        "lora_target_modules names nothing in the model",
        "There would be no adapter to train.",
        "Names of the model's own layers, as the finding lists them.",
        "the model's architecture, built without weights.",
        is_final=True,
    ),
    Code(
        "W602",
        "the tokenizer is that of another model",
        "It has far more tokens than the model has embeddings; the new ones start at random.",
        "Leave tokenizer_name_or_path out.",
        "sizes of vocabulary and embeddings; a hundredth more is poise's own choice.",
    ),
]

CODES: dict[str, Code] = {
    each.code: each for each in (*_BEFORE, *_RATES, *_LENGTHS, *_TEMPLATE, *_ROWS, *_MACHINE, *_MODEL)
}
