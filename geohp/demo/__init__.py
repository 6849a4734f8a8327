"""The demonstration: a drawn town, trained on, mapped and scored."""
