"""What passes between steps: folders described by one JSON file each; a file here for each kind of
folder."""
