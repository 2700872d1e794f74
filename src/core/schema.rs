//! The JSON Schema of `routes.yaml`, from the rows that the walk goes by.
