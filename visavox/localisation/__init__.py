"""At which seconds a clip is forged: curves to segments, and how well the segments fit. Arithmetic that knows no detector."""
