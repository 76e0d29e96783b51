package org.example.birds;

import java.util.ArrayList;
import java.util.List;

public class Main {
    private final String name;

    public Main(String name) {
        this.name = name;
    }

    public static void main(String[] args) {
        List<String> birds = new ArrayList<>();
        birds.add("bee");
        birds.add("giant");
        for (String bird : birds) {
            System.out.println("Hello, " + bird);
        }
    }
}
