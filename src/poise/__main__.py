"""Run poise as a module: `python -m poise`, the form `accelerate launch -m poise` needs."""

from poise.cli import main

if __name__ == "__main__":
    main()
