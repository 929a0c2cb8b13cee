"""How the embedded nano model is made: pictures, camera, training, export. See README.md."""
