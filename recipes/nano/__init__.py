"""The recipe of the embedded nano model: pictures, camera, training, export. See README.md."""
