"""What Tintype needs of the outside, as protocols in domain types; the adapters keep these promises."""
