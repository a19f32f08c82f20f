"""The one list of families. Adding one is a folder and a line here; outside packages use the entry-point group."""

FAMILIES: tuple[str, ...] = (
    "zoo.dcgan.family:FAMILY",
    "zoo.gpt.family:FAMILY",
    "zoo.clip.family:FAMILY",
    "zoo.whisper.family:FAMILY",
)

ENTRY_POINT_GROUP = "zoo.families"
