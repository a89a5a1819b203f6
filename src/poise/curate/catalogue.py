"""What the catalog holds: every dataset with its licence, its confidence, its own recipe keys and its risk."""

from typing import Any

from poise.names import load_named, names_in
from poise.sources.dataset import About, options_of


def catalogue() -> list[dict[str, Any]]:
    """Return what is known of every source, by name."""
    found: list[dict[str, Any]] = []
    for name in names_in("poise.catalog"):
        module = load_named("poise.catalog", name)
        about: About = module.ABOUT
        found.append(
            {
                "source": name,
                "hub": about.hub,
                "config": about.config,
                "split": about.split,
                "licence": about.licence,
                "confidence": about.confidence,
                "keys": {key: parameter.default for key, parameter in options_of(module).items()},
                "risk": about.risk,
                "opt_in": about.opt_in,
                "about": (module.__doc__ or "").partition("\n")[0],
            }
        )
    return found


def told(sources: list[dict[str, Any]]) -> str:
    """Write them for a person, two or three lines each."""
    lines: list[str] = []
    for each in sources:
        keys = ", ".join(f"{key}={value}" for key, value in each["keys"].items())
        lines.append(f"{each['source']:<26}{each['hub']} · {each['licence']} · confidence {each['confidence']}")
        lines.append(f"    {each['about']}" + (f" Keys: {keys}" if keys else ""))
        if each["risk"]:
            lines.append(f"    risk{' (accept_risk: true)' if each['opt_in'] else ''}: {each['risk']}")
    return "\n".join(lines)
