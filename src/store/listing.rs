//! Formats of LIST, NLST, MLSD and MLST lines; pure.
