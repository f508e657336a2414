"""Why an item was found: attention, drawn; and results as a contact sheet."""
