import { readFile } from "node:fs/promises";

export interface Bird {
  readonly name: string;
  mass?: number;
}

type Sorter<T> = (a: T, b: T) => number;

export async function load(path: string): Promise<Bird[]> {
  const text = await readFile(path, "utf-8");
  return JSON.parse(text) as Bird[];
}

const byName: Sorter<Bird> = (a, b) => a.name.localeCompare(b.name);

export default class Aviary {
  private birds: Map<string, Bird> = new Map();
  add(bird: Bird): void {
    this.birds.set(bird.name, bird);
  }
}
