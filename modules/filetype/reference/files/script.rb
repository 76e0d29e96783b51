require 'json'

module Aviary
  class Bird
    attr_reader :name, :mass

    def initialize(name, mass)
      @name = name
      @mass = mass
    end

    def to_s
      "#{name} (#{mass} g)"
    end
  end
end

birds = [Aviary::Bird.new('bee', 2.0), Aviary::Bird.new('giant', 20.0)]
birds.sort_by(&:mass).each { |bird| puts bird }
