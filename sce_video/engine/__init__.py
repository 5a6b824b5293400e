"""The trainer: DeepSpeed engine, optimizers, schedules, checkpoints, tracking."""
