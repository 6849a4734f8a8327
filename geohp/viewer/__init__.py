"""Maps as pages for a browser: to be looked at beside their scene, and to have their classes named."""
