"""Words and pictures for people: listens to events and reads snapshots, changes nothing."""
