"""Generated messages and stubs of proto/conceptseg/v1; `make stubs` makes them again."""
