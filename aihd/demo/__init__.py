"""The main job on an embedded chain and gateway: one task posted, claimed, run, receipted, paid and rated, for everybody to see."""
