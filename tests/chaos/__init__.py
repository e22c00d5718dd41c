"""Random histories of a daemon on a chain that reorganises, sources that fail and lie, rivals, crashes and full disks; promises kept."""
