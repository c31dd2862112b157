"""`python -m lightning_id` is `lightning-id`."""

from lightning_id.cli import main

if __name__ == "__main__":
    main()
