"""An OpenAI emulator: files, batches, chat completions, responses, embeddings and models over real HTTP.

A second, independent reading of the API: it shares data (vocabularies, prices) with the rest of the library, but no
code that counts, prices or judges. See docs/sandbox.md.
"""
