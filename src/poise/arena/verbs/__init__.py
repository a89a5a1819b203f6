"""The commands of `poise arena`, one file each: PARAMETERS, `run(...)`, `told(result)`. Saving a file adds one."""
