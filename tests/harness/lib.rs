//! Starts real processes of the mesh on free ports and temporary folders, for every test in this folder.
