//! Boxes and images on this machine, for real: as root, with the runtimes that `.ci/install test` installs.

#[cfg(test)]
mod boxes;
#[cfg(test)]
mod escape;
#[cfg(test)]
mod exec;
#[cfg(test)]
mod handed;
#[cfg(test)]
mod hostile_images;
#[cfg(test)]
mod images;
#[cfg(test)]
mod support;
