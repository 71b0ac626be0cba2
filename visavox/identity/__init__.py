"""Who is who in clips that name nobody: embeddings of faces and voices, compared, grouped, looked at."""
