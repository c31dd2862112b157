"""Data modules, networks and the LightningModule of the shipped configs."""
