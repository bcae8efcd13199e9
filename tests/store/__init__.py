"""The store keeps its promises: constraints, transactions, readers, migrations, wipes, and a random life."""
