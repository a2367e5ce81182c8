"""The words of the project as types: regions, tiles, dictionaries, label maps, polygons, errors."""
