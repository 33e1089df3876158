// Other engines, each in a folder of its own with its own packages: never among those of stepfast.
export const installedPeers = () => ({});
