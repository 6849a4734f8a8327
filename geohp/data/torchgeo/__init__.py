"""TorchGeo's data sets as geohp's images, and geohp's imagery as TorchGeo's data sets."""
