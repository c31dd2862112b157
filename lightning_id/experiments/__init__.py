"""What the configs run: data modules, networks and the LightningModule that trains them."""
