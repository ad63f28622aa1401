/** Python for programs that hand a socket over at a path given as their first argument. They import array, socket and sys. */

/** Gives `name` to whoever comes, and goes on when that has looked at it. Says "ready" first. */
export function giveAway(name: string): string {
  return `
door = socket.socket(socket.AF_UNIX)
door.bind(sys.argv[1])
door.listen()
print("ready", flush=True)
peer, _ = door.accept()
peer.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [${name}.fileno()]))])
peer.recv(1)
`;
}

/** Takes it as `name`; door.sendall(b"y") lets the giver go on. */
export function takeAs(name: string): string {
  return `
door = socket.socket(socket.AF_UNIX)
door.connect(sys.argv[1])
${name} = socket.socket(fileno=array.array("i", door.recvmsg(1, socket.CMSG_SPACE(4))[1][0][2])[0])
`;
}
