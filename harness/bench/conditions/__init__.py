"""The state of the machine, as the kernel's files tell it. Nothing here needs torch or changes a setting."""
