"""A loaded model: encode, denoise, decode; retries after a shortage of memory, and weight streaming."""
