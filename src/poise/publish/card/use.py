"""How to use the model, as the card tells it: code to copy, and the template that was tried on its files."""

from poise.publish.card.about import About
from poise.publish.card.index import slug
from poise.publish.card.markdown import block, inline

CHAT = (
    "from transformers import AutoModelForCausalLM, AutoTokenizer",
    "",
    "tokenizer = AutoTokenizer.from_pretrained(NAME)  # the folder, or its name on the Hub",
    'messages = [{"role": "user", "content": "What is the capital of France?"}]',
    "inputs = tokenizer.apply_chat_template(",
    '    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"',
    ")",
)
TEXT = (*CHAT[:3], 'inputs = tokenizer("Once upon a time", return_tensors="pt")')
ANSWER = (
    "model = AutoModelForCausalLM.from_pretrained(NAME)",
    "answer = model.generate(**inputs, max_new_tokens=256)",
    'print(tokenizer.decode(answer[0][inputs["input_ids"].shape[1] :], skip_special_tokens=True))',
)


def use(about: About) -> str:
    """Write code that asks the model, and how its template was tried."""
    usage, model = about.usage, about.lineage.model
    if any(model.glob("*.gguf")):
        file = next(model.glob("*.gguf")).name
        return f"```bash\nllama-cli -m {slug(file)}\n```\n\nThe template is in the file."
    name = repr("/".join(map(slug, about.called.split("/"))))
    parts = ["\n".join(["```python", *(CHAT if usage.prompt else TEXT), *ANSWER, "```"]).replace("NAME", name)]
    if usage.fault:
        parts.append(f"The template was not verified: {inline(usage.fault)}.")
    else:
        parts.append(
            f"Verified on the saved files: the template writes the question as below, an answer ends in "
            f"{inline(usage.stop)}, and default generation stops there."
        )
    return "\n\n".join([*parts, *([block(usage.prompt)] if usage.prompt else [])])
