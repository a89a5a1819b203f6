"""The commands of `poise evaluate`, one file each: PARAMETERS, `run(...)`, `told(result)`. Saving a file adds one."""
