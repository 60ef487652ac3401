"""What drivers of volumes have in common: the config, the work on qcow2 files, the six verbs over it, their contract."""
