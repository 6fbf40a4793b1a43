"""The layouts that raw data come in, and the names of their folders."""

# Each layout, and what shows it.
LAYOUTS = {
    "cityscapes": "gtFine/<split>/<city>/*_gtFine_labelIds.png and leftImg8bit/",
    "flat": "train_label/ and train_img/, train_A/ and train_B/, or trainA/ and trainB/",
    "folders": "A/ and B/, label/ and image/, or other usual names, in the folder or in train/",
    "side_by_side": "pictures of two halves in train/, val/, test/, or in the folder itself",
}
SOURCE_SPLITS = ("train", "val", "test")
# What people call them, in any case.
SPLIT_NAMES = {
    **{split: split for split in SOURCE_SPLITS},
    **{"training": "train", "validation": "val", "valid": "val", "testing": "test"},
}
# NVIDIA's folders for maps and for pictures, and CycleGAN's.
FLAT = (("{}_label", "{}_img"), ("{}_A", "{}_B"), ("{}A", "{}B"))
FLAT_NAMES = {
    name.format(split) for split in SOURCE_SPLITS for spelling in FLAT for name in spelling
}
# The usual folders of each role, in any case.
FOLDERS = {
    "input": ("A", "label", "labels", "mask", "masks", "annotations", "input", "inputs"),
    "photo": ("B", "image", "images", "img", "imgs", "photo", "photos", "target", "targets"),
    "instance": ("instance", "instances", "inst"),
}
ROLES = tuple(FOLDERS)
ROLE_OF_FOLDER = {name.casefold(): role for role, names in FOLDERS.items() for name in names}


def belongs_to_a_layout(name: str) -> bool:
    """Whether a folder directly in some layout's root may have this name."""
    exact = {"leftImg8bit", "gtFine", *FLAT_NAMES} | {f"{split}_inst" for split in SOURCE_SPLITS}
    return name in exact or name.casefold() in ROLE_OF_FOLDER | SPLIT_NAMES
