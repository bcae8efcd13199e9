"""All SQL. One writer owns one `Store`; everybody else reads snapshots."""
