"""A loaded model: encode, denoise in passes, decode; retries and weight streaming."""
