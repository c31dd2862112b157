"""The profile of any network on any images, through the callback in ``Trainer.validate``."""
