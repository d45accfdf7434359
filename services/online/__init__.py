"""Online features for backends of any language: what the platform knows now of users or items, columnar, with how fresh it is."""
